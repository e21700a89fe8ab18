import { deferred } from "../deferred.ts";
import { MediaError } from "../errors.ts";
import type { Job } from "./job.ts";
import { isSmall, type Left, type Places } from "./places.ts";
import { dueTime } from "./priority.ts";
import type { SourceGate } from "./source-gate.ts";
import { steadyNow } from "./steady-clock.ts";

export interface CallersParts {
    readonly places: Places;
    readonly gate: SourceGate;
    /** Whether a job's source must not be asked now. */
    readonly mustWait: (job: Job) => boolean;
    /** Gives a job its place and one try; never rejects. */
    readonly begin: (job: Job) => Promise<unknown>;
}

/** A job that is waited for, until its turn. */
interface Caller {
    job: Job;
    /** From then on, by `steadyNow()`, history counts as much as what is new: its room, with what is new behind it, waits. */
    readonly urgentAt: number;
    /** Out of the line; whoever waits goes on when `ended` settles. */
    readonly go: (ended: Promise<unknown>) => void;
}

/** What history that a message waits for waits at most for what is new. */
const HISTORY_PATIENCE_MS = 24 * 3600_000;

/**
 * Jobs that somebody waits for and that stand in no list of the journal, in the order of the calls. They are given no
 * place before their turn, so history in here keeps nobody from one. The look at place and source and the step into both
 * are one, with nothing between them, so that a limit holds however many are begun at once.
 */
export class Callers {
    readonly #parts: CallersParts;
    readonly #line = new Set<Caller>();

    constructor(parts: CallersParts) {
        this.#parts = parts;
    }

    get areNone(): boolean {
        return this.#line.size === 0;
    }

    /** Stands in line. Resolves when the job's turn is over; rejects when `signal` aborts before. */
    async wait(job: Job, signal: AbortSignal): Promise<void> {
        signal.throwIfAborted();
        const over = deferred<unknown>();
        const go = (ended: Promise<unknown>): void => {
            this.#line.delete(caller);
            signal.removeEventListener("abort", leave);
            over.resolve(ended);
        };
        const leave = (): void => go(Promise.reject(signal.reason as Error));
        const caller: Caller = { job, urgentAt: steadyNow() + HISTORY_PATIENCE_MS, go };
        this.#line.add(caller);
        signal.addEventListener("abort", leave);
        await over.promise;
    }

    /** To be told of a job that has changed, which may wait here. */
    changed(job: Job): void {
        for (const caller of this.#line) if (caller.job.id === job.id) caller.job = job;
    }

    /** Begins what goes before everything in the lists. */
    serveUrgent(): void {
        this.#serve((caller) => isUrgent(caller, steadyNow()));
    }

    /** Begins the history that is waited for, where nobody who goes before it was left without a place. */
    serveHistory({ small, large }: Left): void {
        this.#serve(({ job }) => !(isSmall(job) ? small : large));
    }

    #serve(hasTurn: (caller: Caller) => boolean): void {
        const { places, gate, mustWait, begin } = this.#parts;
        if (places.isFull) return;
        // One that goes while the line is gone through is passed over.
        for (const caller of this.#line) {
            const { job, go } = caller;
            if (!hasTurn(caller) || !places.hasOneFor(job)) continue;
            if (mustWait(job)) gate.claimPlace(job);
            else go(begin(job));
        }
    }

    /** When a source opens by itself that somebody waits for. */
    wakeAt(): number {
        let first = Number.POSITIVE_INFINITY;
        for (const { job } of this.#line) {
            const until = this.#parts.gate.closedFor(job);
            if (until > 0) first = Math.min(first, until);
        }
        return first;
    }

    /** Ends all waiting with CLOSED. */
    close(): void {
        for (const { go } of this.#line) go(Promise.reject(new MediaError("CLOSED")));
    }
}

/** Whether a job that is waited for goes before whatever is in the lists: what is new, and history that has waited for long. */
function isUrgent({ job, urgentAt }: Caller, now: number): boolean {
    return !job.backfill || urgentAt <= now;
}

/**
 * When history that is waited for has its turn among the lists' jobs: after all that is new, before other history, and before
 * that which only has to be done before its caller's address ends. By the clock that is ahead: what became ready before the
 * other was set back is new all the same.
 */
export function historyDueAt(): number {
    const readyAt = Math.max(Date.now(), steadyNow());
    return dueTime({ readyAt, size: Number.MAX_SAFE_INTEGER, backfill: false, expiresAt: undefined });
}
