import type { OpenedSource } from "./source.ts";

/**
 * Sources that are opened while the commit is on its way that begins their transfer: disk and network work side by side then,
 * and the transfer finds what it would have asked for, also where that is an error. As many as there are transfers.
 */
export class OpenedAhead {
    readonly #openings = new Map<string, Opening>();

    /** Returns what closes it, unless the transfer has it. */
    begin(jobId: string, open: (signal: AbortSignal) => Promise<OpenedSource>): () => void {
        const life = new AbortController();
        const opening = { opened: open(life.signal), life };
        // Nobody may ever ask for it.
        opening.opened.catch(() => {});
        this.#openings.set(jobId, opening);
        return () => {
            if (this.#openings.get(jobId) !== opening) return;
            this.#openings.delete(jobId);
            life.abort();
            opening.opened.then(({ stream }) => stream.destroy()).catch(() => {});
        };
    }

    /** Hands it over, if there is one; from now on `signal` ends it too. */
    take(jobId: string, signal: AbortSignal): Promise<OpenedSource> | undefined {
        const opening = this.#openings.get(jobId);
        if (opening === undefined) return undefined;
        this.#openings.delete(jobId);
        const { opened, life } = opening;
        const follow = (): void => life.abort(signal.reason);
        if (signal.aborted) follow();
        else signal.addEventListener("abort", follow, { once: true });
        return opened;
    }
}

interface Opening {
    readonly opened: Promise<OpenedSource>;
    readonly life: AbortController;
}
