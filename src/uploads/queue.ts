import { deferred } from "../deferred.ts";
import { MediaError } from "../errors.ts";
import { loggable } from "../redact.ts";
import type { Job } from "./job.ts";
import { transition } from "./transition.ts";
import { jobWrites, loadJob } from "./job-records.ts";
import { mustPrepare } from "./encryption/job-encryption.ts";
import { HeldJobs } from "./held-jobs.ts";
import { Hastening } from "./hastening.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import { Lists } from "./lists.ts";
import type { Refusal } from "./look.ts";
import { Callers } from "./callers.ts";
import { isSmall, type Left, Places } from "./places.ts";
import { dueFromNow, type Release, released } from "./release.ts";
import { steadyNow } from "./steady-clock.ts";
import { STORE_RETRY_MS, Tries, type TryParts } from "./tries.ts";
import { type Wanted, WaitedFor } from "./waited-for.ts";
import { WaitingJobs } from "./waiting-jobs.ts";

/**
 * The bounded queue of upload jobs.
 *
 * The backlog lives in the store, sorted by due time; in memory are only the jobs under way, at most `concurrency`.
 * When a place is free (places.ts), the first job of the schedule that is not under way gets it. A job that must wait lies
 * in a second list (waiting-jobs.ts), and is moved over when its time has come.
 *
 * The lists are read when something may have come into them. As long as the last look has left nobody waiting, a job that
 * becomes ready has its place at once and begins in the commit that makes it ready.
 *
 * Jobs that a message waits for (`runNow`) stand in no list but in line (callers.ts): what is new goes first of all, history
 * behind all that is new in the lists.
 *
 * Every step is committed before the next is taken, and a job under way keeps its place in the schedule: whenever the
 * process dies, the next one finds the work where it was. A job whose source must not be asked now (source-gate.ts) is
 * moved to that source's own list (held-jobs.ts), and the next one gets its place. While the homeserver itself is
 * failing, no new job begins: one after the other would fail for a reason that is none of its own.
 */
export interface UploadQueueParts extends TryParts {
    /** Places for any file. */
    readonly concurrency: number;
    /** Places for small files beside them. */
    readonly smallFileConcurrency: number;
}

interface Run {
    readonly controller: AbortController;
    readonly ended: Promise<Job | undefined>;
}

export class UploadQueue {
    readonly #parts: UploadQueueParts;
    readonly #places: Places;
    readonly #callers: Callers;
    readonly #waitedFor: WaitedFor;
    readonly #hastening: Hastening;
    readonly #running = new Map<string, Run>();
    /** Those under way whose beginning is not journaled yet. */
    readonly #claimed = new Set<string>();
    /** Undefined when something may have come into the lists since. */
    #left: Left | undefined;
    #filling: Promise<void> | undefined;
    #fillAgain = false;
    #timer: NodeJS.Timeout | undefined;
    readonly #tries: Tries;
    #open = false;
    readonly #held: HeldJobs;
    readonly #waiting: WaitingJobs;
    readonly #lists: Lists;

    constructor(parts: UploadQueueParts) {
        this.#parts = parts;
        const isOpen = (): boolean => this.#open;
        const poke = (): void => this.poke();
        this.#tries = new Tries(parts, isOpen, poke);
        this.#held = new HeldJobs(parts.store, parts.gate, parts.locks);
        this.#waiting = new WaitingJobs(parts.store, parts.locks, (job) =>
            this.#tries.advance(job, { type: "promote" }),
        );
        this.#places = new Places(parts.concurrency, parts.smallFileConcurrency);
        this.#callers = new Callers({
            places: this.#places,
            gate: parts.gate,
            mustWait: (job) => this.#held.mustWait(job),
            // What was tried again while its message stands in line is in the schedule too, and may be under way from there.
            begin: (job) => this.#running.get(job.id)?.ended ?? this.#begin(job),
        });
        this.#lists = new Lists({
            ...parts,
            places: this.#places,
            held: this.#held,
            callers: this.#callers,
            underWay: this.#running,
            isOpen,
            offer: (job) => this.#offer(job),
        });
        this.#waitedFor = new WaitedFor({
            store: parts.store,
            locks: parts.locks,
            callers: this.#callers,
            isOpen,
            cancel: (id) => this.cancel(id),
            poke,
        });
        this.#hastening = new Hastening({
            ...parts,
            isOpen,
            leaves: (id) => this.#running.get(id)?.ended,
            advance: (job, event) => this.#tries.advance(job, event),
            onHastened: (job) => {
                this.#held.holds(job);
                this.#callers.changed(job);
                poke();
            },
        });
    }

    get locks(): KeyedLocks {
        return this.#parts.locks;
    }

    /** Jobs under way. */
    get active(): number {
        return this.#running.size;
    }

    async start(): Promise<void> {
        await this.#held.start();
        this.#open = true;
        this.poke();
    }

    /** Looks for jobs that have come to light in the lists. */
    async lookAgain(): Promise<void> {
        await this.#held.start();
        this.#waiting.lookAgain();
        this.poke();
    }

    /** Looks for work; to be called after a job became ready. */
    poke(): void {
        if (!this.#open) return;
        this.#callers.serveUrgent();
        this.#left = undefined;
        this.#fillAgain = true;
        this.#filling ??= this.#fill().finally(() => {
            this.#filling = undefined;
            // Asked for after the last look and before this line.
            if (this.#fillAgain) this.poke();
        });
    }

    /**
     * Makes a job ready; where a place is free that nobody waits for, it also begins. To be called while its lock is held.
     * @param mayBegin False where something is to be asked before, at its turn.
     */
    release(job: Job, mayBegin: boolean): Release {
        const ready = released(job);
        if (ready === undefined) return { job, writes: [], confirm: () => {}, undo: () => {} };
        const begun = mayBegin && this.#mayBegin(ready) ? transition(ready, { type: "begin" }) : undefined;
        if (begun === undefined)
            return { job: ready, writes: jobWrites(job, ready), confirm: () => this.poke(), undo: () => {} };
        const { id } = job;
        const journaled = deferred<boolean>();
        this.#claimed.add(id);
        void this.#begin(begun, journaled.promise);
        return {
            job: ready,
            writes: jobWrites(job, begun),
            isBegun: true,
            confirm: () => {
                this.#claimed.delete(id);
                this.#parts.onChange(begun, 0);
                // Whoever waits for the event hears of it first.
                setImmediate(() => journaled.resolve(true));
            },
            undo: () => {
                this.#claimed.delete(id);
                this.#running.delete(id);
                journaled.resolve(false);
            },
        };
    }

    /** Whether a ready job may begin without a look at the lists, and without what has to be asked before. */
    #mayBegin(job: Job): boolean {
        const left = this.#left;
        if (!this.#open || left === undefined || left.small || (left.large && !isSmall(job))) return false;
        if (mustPrepare(job) || !this.#held.areNone) return false;
        return this.#tries.pausedUntil <= steadyNow() && this.#refusal(job) === undefined;
    }

    /** Why a job of the lists cannot begin now; who is waited for has had the chance before. */
    #refusal(job: Job): Refusal | undefined {
        const refusal = this.#obstacle(job);
        if (refusal !== undefined || this.#callers.areNone) return refusal;
        this.#callers.serveUrgent();
        return this.#obstacle(job);
    }

    #obstacle(job: Job): Refusal | undefined {
        if (this.#held.mustWait(job)) return "source";
        return this.#places.hasOneFor(job) ? undefined : "places";
    }

    /**
     * Runs one job now, outside the schedule: a server without `/create` gives the MXC only with the upload, which the
     * job's message waits for. Resolves with the job in its final state, or as soon as it is `enough`. Rejects with the
     * reason of `closing`; the job is then to go on later.
     */
    runNow(job: Job, closing: AbortSignal, wanted: Wanted = {}): Promise<Job> {
        return this.#waitedFor.run(job, closing, wanted);
    }

    /**
     * Ends a job for good. Rejects with JOB_UNKNOWN. Does nothing to a job that has ended.
     * @param isUnseen Whether no event has shown its address.
     */
    async cancel(id: string, isUnseen = false): Promise<void> {
        while (!(await this.#cancelled(id, isUnseen))) {
            // Also one that was given its place meanwhile. The run journals its own end, so nothing races with it; but a
            // try that was just being journaled as failed, to be tried again, no longer hears of it.
            const run = this.#running.get(id);
            run?.controller.abort(new MediaError("CANCELLED"));
            await run?.ended;
        }
    }

    /** Whether the job has ended, by now at the latest; false while it is under way. */
    async #cancelled(id: string, isUnseen: boolean): Promise<boolean> {
        if (this.#running.has(id) && !this.#claimed.has(id)) return false;
        return this.#parts.locks.hold([id], async () => {
            if (this.#running.has(id)) return false;
            const job = await loadJob(this.#parts.store, id);
            if (job === undefined) throw new MediaError("JOB_UNKNOWN", { detail: id });
            await this.#tries.advance(job, { type: "cancel", at: Date.now(), isUnseen });
            this.#waitedFor.cancelled(id);
            return true;
        });
    }

    /** Has history go with what is new from its next try on, because something new waits for it that is due then. */
    hasten(id: string, dueAt: number): void {
        this.#hastening.hasten(id, dueAt);
    }

    /** Gives a failed job another full set of tries. Rejects with JOB_UNKNOWN or JOB_NOT_RETRYABLE. */
    async retry(id: string): Promise<void> {
        await this.#parts.locks.hold([id], async () => {
            const job = await loadJob(this.#parts.store, id);
            if (job === undefined) throw new MediaError("JOB_UNKNOWN", { detail: id });
            const after = await this.#tries.advance(job, { type: "retry", dueAt: dueFromNow(job) });
            if (after === undefined) throw new MediaError("JOB_NOT_RETRYABLE", { detail: `it is ${job.state}` });
        });
        this.poke();
    }

    /** Stops taking work, breaks off transfers (their jobs stay ready) and waits until all is quiet. */
    async close(): Promise<void> {
        this.#open = false;
        clearTimeout(this.#timer);
        this.#callers.close();
        // Once nothing can begin any more.
        await this.#filling;
        for (const { controller } of this.#running.values()) controller.abort(new MediaError("CLOSED"));
        await this.#places.onIdle();
        await this.#hastening.close();
    }

    async #fill(): Promise<void> {
        while (this.#fillAgain && this.#open) {
            this.#fillAgain = false;
            try {
                if (await this.#waiting.move()) this.#fillAgain = true;
                // Before the look: whose source opens meanwhile has been refused, and is to be looked at again.
                const callersWakeAt = this.#callers.wakeAt();
                // None is to begin while the homeserver is failing.
                const isPaused = this.#tries.pausedUntil > steadyNow();
                const looked = isPaused ? undefined : await this.#lists.look();
                if (looked?.again === true) this.#fillAgain = true;
                if (!this.#fillAgain) this.#left = looked?.left;
                const opensAt = looked === undefined ? this.#tries.pausedUntil : this.#held.opensAt();
                this.#wakeAt(Math.min(this.#waiting.until, opensAt, callersWakeAt));
            } catch (error) {
                this.#parts.logger.error("The upload queue could not read or write its journal", {
                    error: loggable(error),
                });
                this.#waiting.lookAgain();
                this.#wakeAt(steadyNow() + STORE_RETRY_MS);
            }
        }
    }

    /** Begins a job of the lists, or says why it cannot begin now. */
    #offer(job: Job): Refusal | undefined {
        const refusal = this.#refusal(job);
        if (refusal === undefined) void this.#begin(job);
        return refusal;
    }

    #wakeAt(time: number): void {
        clearTimeout(this.#timer);
        if (!this.#open || time === Number.POSITIVE_INFINITY) return;
        const delay = Math.min(Math.max(0, time - steadyNow()), 2 ** 31 - 1);
        this.#timer = setTimeout(() => this.poke(), delay);
    }

    /**
     * Gives a job its place and one try; never rejects. Resolves with the job as it stands afterwards.
     * @param journaled Whether its beginning is, for one that needs not be begun any more.
     */
    #begin(job: Job, journaled?: Promise<boolean>): Promise<Job | undefined> {
        const { id } = job;
        const controller = new AbortController();
        if (!this.#open) controller.abort(new MediaError("CLOSED"));
        const leave = this.#parts.gate.enter(job);
        const work = (): Promise<Job | undefined> =>
            journaled === undefined
                ? this.#tries.run(job, controller.signal)
                : this.#tries.runWith(journaled, job, controller.signal);
        const ended = this.#places.run(job, work).finally(() => {
            leave();
            if (this.#running.get(id) === run) this.#running.delete(id);
        });
        const run = { controller, ended };
        this.#running.set(id, run);
        void ended.then((after) => this.#ended(job, after));
        return ended;
    }

    /** Looks for work where there may be some now. */
    #ended(before: Job, job: Job | undefined): void {
        if (job === undefined) this.#held.holds(before);
        this.#waiting.waits(job === undefined ? 0 : (job.notBefore ?? Number.POSITIVE_INFINITY));
        const left = this.#left;
        const isNobodyLeft =
            left !== undefined && !left.small && !left.large && this.#held.areNone && this.#callers.areNone;
        if (job?.state !== "done" || !isNobodyLeft) this.poke();
    }
}
