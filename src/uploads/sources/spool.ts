import { createReadStream } from "node:fs";
import { chmod, mkdir, open, opendir, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { MediaError, systemCode } from "../../errors.ts";
import type { OpenedSource, Source, SourceDescription } from "./source.ts";
import { SpoolUsage } from "./spool-usage.ts";

type SpoolDescription = Extract<SourceDescription, { kind: "spool" }>;

/** What another thread needs to use the same spool; its bytes are counted together. */
export interface SpoolShare {
    readonly directory: string;
    readonly maxBytes: number;
    readonly usage: SharedArrayBuffer;
}

/**
 * Files on disk under the component's own folder, together never more than `maxBytes`: bytes that a caller handed
 * over (kept until their job is done), and copies of sources that do not say their length (kept for one try).
 */
export class Spool implements Source<SpoolDescription> {
    readonly #directory: string;
    readonly #maxBytes: number;
    readonly #usage: SpoolUsage;
    /** Of the files that were written or found here; another thread knows its own. */
    readonly #sizes = new Map<string, number>();
    readonly #removing = new Set<Promise<void>>();

    constructor(directory: string, maxBytes: number, usage = new SpoolUsage()) {
        this.#directory = directory;
        this.#maxBytes = maxBytes;
        this.#usage = usage;
    }

    /** In the thread that was given the share. */
    static of({ directory, maxBytes, usage }: SpoolShare): Spool {
        return new Spool(directory, maxBytes, SpoolUsage.ofOther(usage));
    }

    get share(): SpoolShare {
        return { directory: this.#directory, maxBytes: this.#maxBytes, usage: this.#usage.shared };
    }

    /** Bytes on disk now. */
    get usedBytes(): number {
        return this.#usage.bytes;
    }

    /** Takes stock after a start: removes what no job needs, counts what stays. */
    async start(isNeeded: (name: string) => Promise<boolean>): Promise<void> {
        await mkdir(this.#directory, { recursive: true, mode: 0o700 });
        await chmod(this.#directory, 0o700);
        for await (const entry of await opendir(this.#directory)) {
            const path = join(this.#directory, entry.name);
            if (await isNeeded(entry.name)) this.#account(entry.name, (await stat(path)).size);
            else await rm(path, { force: true, recursive: true });
        }
    }

    /**
     * Copies a body to disk and returns its length once it is there for good (fsync). Rejects with SPOOL_FULL (with a
     * `limit` where the file alone is too large for it) or SPOOL_FAILED, or with the body's own error; nothing is left behind then.
     */
    async write(name: string, body: AsyncIterable<Uint8Array>): Promise<number> {
        let size = 0;
        try {
            // Of one that could not be removed.
            this.#uncount(name);
            const handle = await open(this.#path(name), "w", 0o600);
            try {
                for await (const chunk of body) {
                    size += chunk.length;
                    this.#account(name, chunk.length);
                    if (this.#usage.bytes > this.#maxBytes) throw spoolFull(size > this.#maxBytes, this.#maxBytes);
                    await handle.writeFile(chunk);
                }
                await handle.sync();
            } finally {
                await handle.close();
            }
            return size;
        } catch (error) {
            // A disk that does not even take it away is told by why it did not take it.
            await this.remove(name).catch(() => {});
            throw spoolError(error);
        }
    }

    async open({ name }: SpoolDescription, signal: AbortSignal): Promise<OpenedSource> {
        const path = this.#path(name);
        const { size } = await stat(path).catch((cause: unknown) => {
            // A disk in trouble is no file that is gone.
            throw systemCode(cause) === "ENOENT" ? new MediaError("SPOOL_MISSING", { cause }) : spoolError(cause);
        });
        const stream = createReadStream(path, { signal, highWaterMark: 256 * 1024 });
        stream.on("error", () => {});
        return { stream, size };
    }

    /** Removes a file; one that is not there is no error. */
    async remove(name: string): Promise<void> {
        const removing = rm(this.#path(name), { force: true }).then(() => this.#uncount(name));
        this.#removing.add(removing);
        await removing.finally(() => this.#removing.delete(removing));
    }

    /** Whether its disk has room for what else is kept there. One that cannot be asked has. */
    async hasRoom(): Promise<boolean> {
        const disk = await statfs(this.#directory).catch(() => undefined);
        return disk === undefined || disk.bavail * disk.bsize >= ROOM_BYTES;
    }

    /** Resolves when every removal that has begun is over, so that there is room for as much. */
    async quiet(): Promise<void> {
        await Promise.allSettled(this.#removing);
    }

    /** Removes what a thread that has ended left here, and what it had counted. To be called before another one writes. */
    async clearOther(names: readonly string[]): Promise<void> {
        this.#usage.forgetOther();
        await Promise.all(names.map((name) => rm(this.#path(name), { force: true })));
    }

    #uncount(name: string): void {
        this.#usage.add(-(this.#sizes.get(name) ?? 0));
        this.#sizes.delete(name);
    }

    #account(name: string, bytes: number): void {
        this.#sizes.set(name, (this.#sizes.get(name) ?? 0) + bytes);
        this.#usage.add(bytes);
    }

    #path(name: string): string {
        if (!/^[\w.-]{1,128}$/.test(name)) throw new MediaError("SPOOL_MISSING", { detail: "not a spool name" });
        return join(this.#directory, name);
    }
}

/** More than a journal needs to be opened again. */
const ROOM_BYTES = 16 * 1024 * 1024;

function spoolFull(byItself: boolean, limit: number): MediaError {
    return new MediaError("SPOOL_FULL", byItself ? { limit } : { retryAfterMs: 5000 });
}

function spoolError(cause: unknown): MediaError {
    if (cause instanceof MediaError) return cause;
    const detail = systemCode(cause);
    return new MediaError("SPOOL_FAILED", { cause, ...(detail !== undefined && { detail }) });
}
