import { deferred } from "../deferred.ts";
import type { Job } from "./job.ts";
import { dueTime } from "./priority.ts";

/** A job that is waited for, until its turn. */
export interface Caller {
    readonly job: Job;
    /** From then on history counts as much as what is new. Milliseconds since the epoch. */
    readonly dueAt: number;
    /** Out of the line; whoever waits goes on when `ended` settles. */
    readonly go: (ended: Promise<unknown>) => void;
}

/**
 * Jobs that somebody waits for and that stand in no list of the journal, in the order of the calls. They are given no
 * place before their turn, so history in here keeps nobody from one.
 */
export class Callers {
    readonly #line = new Set<Caller>();

    get areNone(): boolean {
        return this.#line.size === 0;
    }

    /** In their order. One that goes while the line is gone through is passed over. */
    [Symbol.iterator](): Iterator<Caller> {
        return this.#line.values();
    }

    /** Stands in line. Resolves when the job's turn is over or it is called off; rejects when `signal` aborts before. */
    async wait(job: Job, dueAt: number, signal: AbortSignal): Promise<void> {
        signal.throwIfAborted();
        const over = deferred<unknown>();
        const go = (ended: Promise<unknown>): void => {
            this.#line.delete(caller);
            signal.removeEventListener("abort", leave);
            over.resolve(ended);
        };
        const leave = (): void => go(Promise.reject(signal.reason as Error));
        const caller: Caller = { job, dueAt, go };
        this.#line.add(caller);
        signal.addEventListener("abort", leave);
        await over.promise;
    }
}

/** Whether a job that is waited for goes before whatever is in the lists: what is new, and history that has waited for long. */
export function isUrgent({ job, dueAt }: Caller, now: number): boolean {
    return !job.backfill || dueAt <= now;
}

/** When history that is waited for has its turn among the lists' jobs: after all that is new, before other history. */
export function historyDueAt(now: number): number {
    return dueTime({ readyAt: now, size: Number.MAX_SAFE_INTEGER, backfill: false, expiresAt: undefined });
}
