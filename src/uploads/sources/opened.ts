import { Readable } from "node:stream";
import { abortWith } from "../../linked-abort.ts";
import type { OpenedSource } from "./source.ts";

/**
 * Streams that were opened before their job's turn (by a probe), kept so that the transfer need not open its source a
 * second time. A few, and not for long: what finds no place here, or is not fetched in time, is closed, and its transfer
 * opens the source anew. After a restart there are none.
 */
export class OpenedSources {
    readonly #maxOpen: number;
    readonly #keepMs: number;
    readonly #open = new Map<string, Kept>();

    constructor(maxOpen: number, keepMs: number) {
        this.#maxOpen = maxOpen;
        this.#keepMs = keepMs;
    }

    /** Keeps it for the job, or closes it when there is no place. `life` ends it. */
    keep(jobId: string, opened: OpenedSource, life: AbortController): void {
        if (this.#open.size >= this.#maxOpen) return letGo({ opened, life });
        const timer = setTimeout(() => this.drop(jobId), this.#keepMs);
        timer.unref();
        this.#open.set(jobId, { opened, life, timer });
    }

    has(jobId: string): boolean {
        return this.#open.has(jobId);
    }

    /** Hands it over, if it is still there and sound; from now on `signal` ends it too. */
    take(jobId: string, signal: AbortSignal): OpenedSource | undefined {
        const kept = this.#open.get(jobId);
        if (kept === undefined) return undefined;
        this.#open.delete(jobId);
        clearTimeout(kept.timer);
        const { opened, life } = kept;
        if (life.signal.aborted || (opened.stream instanceof Readable && opened.stream.destroyed)) {
            letGo(kept);
            return undefined;
        }
        abortWith(signal, life);
        return opened;
    }

    drop(jobId: string): void {
        const kept = this.#open.get(jobId);
        if (kept === undefined) return;
        this.#open.delete(jobId);
        clearTimeout(kept.timer);
        letGo(kept);
    }

    close(): void {
        for (const jobId of this.#open.keys()) this.drop(jobId);
    }
}

interface Kept {
    readonly opened: OpenedSource;
    readonly life: AbortController;
    readonly timer?: NodeJS.Timeout;
}

function letGo({ opened, life }: Kept): void {
    opened.stream.destroy();
    life.abort();
}
