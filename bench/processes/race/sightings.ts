/**
 * What the homeserver saw of a heat, and when. It is the one witness for all contestants: nobody times himself. The clock is the
 * machine's monotonic one, which all processes share.
 */
export interface Seen {
    readonly events: readonly { readonly key: string; readonly at: number; readonly url?: string }[];
    readonly files: readonly { readonly url: string; readonly at: number; readonly bytes: number }[];
}

/** Milliseconds on the machine's clock. */
export function now(): number {
    return Number(process.hrtime.bigint()) / 1e6;
}

export class Sightings {
    #events: Seen["events"][number][] = [];
    #files: Seen["files"][number][] = [];

    /** An event that was accepted. */
    event(body: string): void {
        const { body: key, url } = JSON.parse(body) as { body?: string; url?: string };
        if (key !== undefined) this.#events.push({ key, at: now(), ...(url !== undefined && { url }) });
    }

    /** A file that can be downloaded from now on. */
    file(url: string, bytes: number): void {
        this.#files.push({ url, at: now(), bytes });
    }

    /** What was seen since this was asked for the last time. */
    take(): Seen {
        const seen = { events: this.#events, files: this.#files };
        this.#events = [];
        this.#files = [];
        return seen;
    }
}
