import { abortWith } from "../../linked-abort.ts";
import type { OpenedSource } from "./source.ts";

/**
 * Sources that are opened while the commit is on its way that begins their transfer: disk and network work side by side then,
 * and the transfer finds what it would have asked for, also where that is an error. As many as there are transfers, and not
 * for long: one that is not fetched in time, because the disk stands still, is closed, and its transfer opens the source anew.
 */
export class OpenedAhead {
    readonly #keepMs: number;
    readonly #openings = new Map<string, Opening>();

    constructor(keepMs: number) {
        this.#keepMs = keepMs;
    }

    /** Returns what closes it, unless the transfer has it. */
    begin(jobId: string, open: (signal: AbortSignal) => Promise<OpenedSource>): () => void {
        const life = new AbortController();
        const opened = open(life.signal);
        // Nobody may ever ask for it.
        opened.catch(() => {});
        const letGo = (): void => {
            if (this.#openings.get(jobId) !== opening) return;
            this.#forget(jobId, opening);
            life.abort();
            opened.then(({ stream }) => stream.destroy()).catch(() => {});
        };
        const opening = { opened, life, timer: setTimeout(letGo, this.#keepMs).unref() };
        this.#openings.set(jobId, opening);
        return letGo;
    }

    /** Hands it over, if there is one; from now on `signal` ends it too. */
    take(jobId: string, signal: AbortSignal): Promise<OpenedSource> | undefined {
        const opening = this.#openings.get(jobId);
        if (opening === undefined) return undefined;
        this.#forget(jobId, opening);
        const { opened, life } = opening;
        abortWith(signal, life);
        return opened;
    }

    #forget(jobId: string, { timer }: Opening): void {
        this.#openings.delete(jobId);
        clearTimeout(timer);
    }
}

interface Opening {
    readonly opened: Promise<OpenedSource>;
    readonly life: AbortController;
    readonly timer: NodeJS.Timeout;
}
