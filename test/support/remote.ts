import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A remote network's file server whose every answer a test decides. */
export interface Remote {
    readonly url: string;
    readonly requests: IncomingMessage[];
    /** Answers the path with `handler`. */
    on(path: string, handler: (request: IncomingMessage, response: ServerResponse) => void): string;
    /** Serves these bytes at a path of their own, and returns the address. */
    file(bytes: Buffer, mimetype?: string): string;
    close(): Promise<void>;
}

export async function startRemote(): Promise<Remote> {
    const handlers = new Map<string, (request: IncomingMessage, response: ServerResponse) => void>();
    const requests: IncomingMessage[] = [];
    const server = createServer((request, response) => {
        requests.push(request);
        const handler = handlers.get(new URL(request.url ?? "/", "http://remote").pathname);
        if (handler !== undefined) return handler(request, response);
        response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const remote: Remote = {
        url,
        requests,
        on(path, handler) {
            handlers.set(path, handler);
            return url + path;
        },
        file(bytes, mimetype = "image/jpeg") {
            return remote.on(`/${sha256(bytes)}`, (_request, response) => {
                response.writeHead(200, { "content-type": mimetype, "content-length": bytes.length }).end(bytes);
            });
        },
        async close() {
            server.closeAllConnections();
            await new Promise((resolve) => server.close(resolve));
        },
    };
    return remote;
}

export function sha256(bytes: Uint8Array): string {
    return createHash("sha256").update(bytes).digest("hex");
}

export function someBytes(size: number): Buffer {
    const bytes = randomBytes(size);
    // Else one file in a thousand looks like a page, or like sound from its second byte on.
    bytes.subarray(0, 4).fill(0xa5);
    if (size > 0) bytes[0] = 0;
    return bytes;
}
