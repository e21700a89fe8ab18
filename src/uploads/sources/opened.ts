import type { OpenedSource } from "./source.ts";
import { Readable } from "node:stream";

/**
 * Streams that were opened before their job's turn, by a probe or while its event was journaled, kept so that the transfer
 * need not open its source a second time, or wait for it. A few, and not for long: what finds no place here, or is not
 * fetched in time, is closed, and its transfer opens the source anew. After a restart there are none.
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
        const kept = { opening: Promise.resolve(opened), life };
        if (this.#open.size >= this.#maxOpen) letGo(kept);
        else this.#put(jobId, kept);
    }

    /** Opens one ahead where there is a place for it; that it cannot be opened, the job's transfer hears when it fetches it. */
    open(jobId: string, open: (signal: AbortSignal) => Promise<OpenedSource>): void {
        if (this.#open.size >= this.#maxOpen || this.#open.has(jobId)) return;
        const life = new AbortController();
        const opening = open(life.signal);
        // Heard by whoever fetches it, if anybody does.
        opening.catch(() => {});
        this.#put(jobId, { opening, life });
    }

    /**
     * Hands it over, if it is still there and sound; from now on `signal` ends it too. Rejects, for one that was opened
     * ahead, as its opening has.
     */
    async take(jobId: string, signal: AbortSignal): Promise<OpenedSource | undefined> {
        const kept = this.#remove(jobId);
        if (kept === undefined || kept.life.signal.aborted) return undefined;
        const follow = (): void => kept.life.abort(signal.reason);
        if (signal.aborted) follow();
        else signal.addEventListener("abort", follow, { once: true });
        const opened = await kept.opening;
        if (!(opened.stream instanceof Readable) || !opened.stream.destroyed) return opened;
        letGo(kept);
        return undefined;
    }

    drop(jobId: string): void {
        const kept = this.#remove(jobId);
        if (kept !== undefined) letGo(kept);
    }

    close(): void {
        for (const jobId of this.#open.keys()) this.drop(jobId);
    }

    #put(jobId: string, { opening, life }: Kept): void {
        const timer = setTimeout(() => this.drop(jobId), this.#keepMs);
        timer.unref();
        this.#open.set(jobId, { opening, life, timer });
    }

    #remove(jobId: string): Kept | undefined {
        const kept = this.#open.get(jobId);
        this.#open.delete(jobId);
        clearTimeout(kept?.timer);
        return kept;
    }
}

interface Kept {
    readonly opening: Promise<OpenedSource>;
    readonly life: AbortController;
    readonly timer?: NodeJS.Timeout;
}

function letGo({ opening, life }: Kept): void {
    opening.then(({ stream }) => stream.destroy()).catch(() => {});
    life.abort();
}
