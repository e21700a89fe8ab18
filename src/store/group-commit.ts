import type { MediaError } from "../errors.ts";

interface Waiting<W> {
    readonly writes: readonly W[];
    readonly resolve: () => void;
    readonly reject: (error: MediaError) => void;
}

/**
 * One commit at a time is under way; those that arrive meanwhile are written together in the next one, so that a
 * synced write is paid once by all of them, and the order of the calls is the order on disk.
 */
export class GroupCommit<W> {
    readonly #write: (writes: readonly W[]) => Promise<void>;
    readonly #failed: (cause: unknown) => MediaError;
    #waiting: Waiting<W>[] = [];
    #flushing: Promise<void> | undefined;

    /**
     * @param write Writes all of them or none, synced.
     * @param failed Told why it did not; what every commit in the group rejects with.
     */
    constructor(write: (writes: readonly W[]) => Promise<void>, failed: (cause: unknown) => MediaError) {
        this.#write = write;
        this.#failed = failed;
    }

    commit(writes: readonly W[]): Promise<void> {
        return new Promise((resolve, reject) => {
            this.#waiting.push({ writes, resolve, reject });
            this.#flushing ??= this.#flush();
        });
    }

    /** Resolves when nothing is under way. */
    async idle(): Promise<void> {
        await this.#flushing;
    }

    async #flush(): Promise<void> {
        // One turn of the loop gathers what is committed side by side.
        await Promise.resolve();
        while (this.#waiting.length > 0) {
            const group = this.#waiting;
            this.#waiting = [];
            try {
                await this.#write(group.flatMap(({ writes }) => writes));
                for (const { resolve } of group) resolve();
            } catch (cause) {
                const error = this.#failed(cause);
                for (const { reject } of group) reject(error);
            }
        }
        this.#flushing = undefined;
    }
}
