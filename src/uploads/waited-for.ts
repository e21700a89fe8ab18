import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { MediaError } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import type { Store } from "../store/store.ts";
import type { Callers } from "./callers.ts";
import { isFinal, type Job } from "./job.ts";
import { loadJob } from "./job-records.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import { LONGEST_WAIT_MS } from "./retry.ts";
import { steadyNow } from "./steady-clock.ts";
import { STORE_RETRY_MS } from "./tries.ts";

export interface WaitedForParts {
    readonly store: Store;
    /** Those that jobs are changed under. */
    readonly locks: KeyedLocks;
    readonly callers: Callers;
    /** False once nothing may begin any more. */
    readonly isOpen: () => boolean;
    /** Ends a job for good. */
    readonly cancel: (id: string) => Promise<void>;
    /** Looks for work in the lists, and for the history in the line behind what is new there. */
    readonly poke: () => void;
}

/** How far a job is wanted, and until when. */
export interface Wanted {
    /** Whether that is far enough. @default only its end */
    readonly enough?: (job: Job) => boolean;
    /** Ends the job for good when it aborts before the queue closes; it must not have aborted yet. */
    readonly stop?: AbortSignal;
}

/** Jobs that a message waits for, one try after the other, each at its turn in the line (callers.ts). */
export class WaitedFor {
    readonly #parts: WaitedForParts;
    /** What wakes those who wait for a job, by its id, when it is cancelled. */
    readonly #awaited = new Map<string, LinkedAbort>();

    constructor(parts: WaitedForParts) {
        this.#parts = parts;
    }

    /** See `UploadQueue.runNow()`. */
    async run(job: Job, closing: AbortSignal, { enough = () => false, stop }: Wanted): Promise<Job> {
        const waiting = new LinkedAbort([closing]);
        const abandon = (): void => {
            // On closing the queue itself breaks the try off.
            if (!closing.aborted) this.#parts.cancel(job.id).catch(() => {});
        };
        this.#awaited.set(job.id, waiting);
        stop?.addEventListener("abort", abandon, { once: true });
        let before: Job | undefined;
        try {
            while (true) {
                // As journaled, and only after listening: it may have been cancelled before, or between two tries.
                const current = (await loadJob(this.#parts.store, job.id)) ?? job;
                if (isFinal(current.state) || enough(current)) return current;
                // A turn that changed nothing may be followed by another such, for ever, with no other work in between.
                const pauseMs = isDeepStrictEqual(current, before) ? STORE_RETRY_MS : 0;
                before = current;
                await this.#turn(current, pauseMs, waiting.signal).catch((error: unknown) => {
                    closing.throwIfAborted();
                    if (!waiting.signal.aborted) throw error;
                });
            }
        } finally {
            stop?.removeEventListener("abort", abandon);
            this.#awaited.delete(job.id);
            waiting.release();
        }
    }

    /** To be told of a job that was cancelled. */
    cancelled(id: string): void {
        this.#awaited.get(id)?.abort(new MediaError("CANCELLED"));
    }

    /** One try, as soon as the job's wait is over and it is its turn among those that are waited for. */
    async #turn(job: Job, pauseMs: number, signal: AbortSignal): Promise<void> {
        const { store, locks, callers, isOpen, poke } = this.#parts;
        const delay = Math.max(pauseMs, Math.min((job.notBefore ?? 0) - steadyNow(), LONGEST_WAIT_MS));
        if (delay > 0) await sleep(delay, undefined, { signal });
        // As it is by now, and in the line before it changes again: something new may have come to wait for it.
        const { turn } = await locks.hold([job.id], async () => {
            const current = (await loadJob(store, job.id)) ?? job;
            if (!isOpen()) throw new MediaError("CLOSED");
            return { turn: callers.wait(current, signal) };
        });
        callers.serveUrgent();
        if (!callers.areNone) poke();
        await turn;
    }
}
