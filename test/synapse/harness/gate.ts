import type { Remote } from "../../support/remote.ts";

/** A file that comes as far as `ahead` and then waits until it is let through. */
export interface GatedFile {
    readonly url: string;
    /** How often it was asked for. */
    readonly asked: number;
    open(): void;
}

let count = 0;

export function gatedFile(remote: Remote, bytes: Buffer, { ahead = 0 } = {}): GatedFile {
    let open: () => void = () => {};
    let asked = 0;
    const opened = new Promise<void>((resolve) => {
        open = resolve;
    });
    const url = remote.on(`/gated/${count++}`, (_request, response) => {
        asked++;
        response.writeHead(200, { "content-type": "image/jpeg", "content-length": bytes.length });
        response.write(bytes.subarray(0, ahead));
        void opened.then(() => response.end(bytes.subarray(ahead)));
    });
    return {
        url,
        get asked() {
            return asked;
        },
        open,
    };
}
