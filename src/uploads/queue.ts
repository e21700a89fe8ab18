import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { MediaError } from "../errors.ts";
import type { Write } from "../store/store.ts";
import { isFinal, type Job } from "./job.ts";
import { transition } from "./transition.ts";
import { fromOrderedKey, isPlaceOf, jobWrites, loadJob, SCHEDULE, WAITING } from "./job-records.ts";
import { HeldJobs } from "./held-jobs.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import { dueTime, isThumbnail } from "./priority.ts";
import { LONGEST_WAIT_MS } from "./retry.ts";
import { steadyNow } from "./steady-clock.ts";
import { STORE_RETRY_MS, Tries, type TryParts } from "./tries.ts";

/**
 * The bounded queue of upload jobs.
 *
 * The backlog lives in the store, sorted by due time; in memory are only the jobs under way, at most `concurrency`.
 * When a place is free, the first job of the schedule that is not under way gets it. A job that must wait lies in a
 * second list, sorted by the time until which it waits, and is moved over when that has come.
 *
 * Every step is committed before the next is taken, and a job under way keeps its place in the schedule: whenever the
 * process dies, the next one finds the work where it was. A job whose source must not be asked now (source-gate.ts) is
 * moved to that source's own list (held-jobs.ts), and the next one gets its place. While the homeserver itself is
 * failing, no new job begins: one after the other would fail for a reason that is none of its own.
 */
export interface UploadQueueParts extends TryParts {
    readonly concurrency: number;
}

interface Run {
    readonly controller: AbortController;
    readonly ended: Promise<Job | undefined>;
}

/** Jobs that are moved out of the schedule in one step when their source is closed. */
const HOLD_BATCH = 256;
/** How often a message that needs its file at once looks whether the file's source is open. */
const SOURCE_LOOK_MS = 100;

export class UploadQueue {
    readonly #parts: UploadQueueParts;
    readonly #places: PQueue;
    readonly #running = new Map<string, Run>();
    #filling: Promise<void> | undefined;
    #fillAgain = false;
    #timer: NodeJS.Timeout | undefined;
    readonly #tries: Tries;
    #open = false;
    readonly #held: HeldJobs;
    #scanAhead = 0;

    constructor(parts: UploadQueueParts) {
        this.#parts = parts;
        this.#tries = new Tries(parts, () => this.#open);
        this.#held = new HeldJobs(parts.store, parts.gate, parts.locks);
        this.#places = new PQueue({ concurrency: parts.concurrency });
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
        this.poke();
    }

    /** Looks for work; to be called after a job became ready. */
    poke(): void {
        if (!this.#open) return;
        this.#fillAgain = true;
        this.#filling ??= this.#fill().finally(() => {
            this.#filling = undefined;
            // Asked for after the last look and before this line.
            if (this.#fillAgain) this.poke();
        });
    }

    /** The writes that make a reserved job ready; the caller commits them and calls `poke()`. */
    releaseWrites(job: Job): { job: Job; writes: Write[] } {
        const after = transition(job, { type: "release", dueAt: dueFromNow(job) });
        return after === undefined ? { job, writes: [] } : { job: after, writes: jobWrites(job, after) };
    }

    /**
     * Runs one job now, outside the schedule: a server without `/create` gives the MXC only with the upload, which the
     * job's message waits for. Resolves with the job in its final state, or as soon as it is `enough`.
     */
    async runNow(job: Job, signal: AbortSignal, enough: (job: Job) => boolean = () => false): Promise<Job> {
        let current = job;
        while (!isFinal(current.state) && !enough(current)) {
            signal.throwIfAborted();
            const delay = Math.min((current.notBefore ?? 0) - steadyNow(), LONGEST_WAIT_MS);
            if (delay > 0) await sleep(delay, undefined, { signal });
            await this.#sourceIsOpen(current, signal);
            await this.#begin(current);
            // As journaled: it may have been cancelled between two tries.
            current = (await loadJob(this.#parts.store, job.id)) ?? current;
        }
        return current;
    }

    /** Waits until the job's source may be asked; what waits here stands in no list, so it looks again and again. */
    async #sourceIsOpen(job: Job, signal: AbortSignal): Promise<void> {
        while (this.#held.mustWait(job)) {
            await sleep(SOURCE_LOOK_MS, undefined, { signal });
            const now = await loadJob(this.#parts.store, job.id);
            // Cancelled meanwhile: nobody waits for it any more.
            if (now === undefined || isFinal(now.state)) return;
        }
    }

    /** Ends a job for good. Rejects with JOB_UNKNOWN. Does nothing to a job that has ended. */
    async cancel(id: string): Promise<void> {
        if (!this.#running.has(id)) {
            await this.#parts.locks.hold([id], async () => {
                const job = await loadJob(this.#parts.store, id);
                if (job === undefined) throw new MediaError("JOB_UNKNOWN", { detail: id });
                await this.#tries.advance(job, { type: "cancel", at: Date.now() });
            });
        }
        // Also one that was given its place meanwhile. The run journals its own end, so nothing races with it.
        const run = this.#running.get(id);
        run?.controller.abort(new MediaError("CANCELLED"));
        await run?.ended;
    }

    /** Gives a failed job another full set of tries. Rejects with JOB_UNKNOWN or JOB_NOT_RETRYABLE. */
    async retry(id: string): Promise<void> {
        const job = await loadJob(this.#parts.store, id);
        if (job === undefined) throw new MediaError("JOB_UNKNOWN", { detail: id });
        const after = await this.#tries.advance(job, { type: "retry", dueAt: dueFromNow(job) });
        if (after === undefined) throw new MediaError("JOB_NOT_RETRYABLE", { detail: `it is ${job.state}` });
        this.poke();
    }

    /** Stops taking work, breaks off transfers (their jobs stay ready) and waits until all is quiet. */
    async close(): Promise<void> {
        this.#open = false;
        clearTimeout(this.#timer);
        // Once nothing can begin any more.
        await this.#filling;
        for (const { controller } of this.#running.values()) controller.abort(new MediaError("CLOSED"));
        await this.#places.onIdle();
    }

    async #fill(): Promise<void> {
        while (this.#fillAgain && this.#open) {
            this.#fillAgain = false;
            try {
                const wakeAt = Math.min(await this.#promoteWaiting(), await this.#takePlaces());
                this.#wakeAt(wakeAt);
            } catch (error) {
                this.#parts.logger.error("The upload queue could not read or write its journal", { error });
                this.#wakeAt(steadyNow() + STORE_RETRY_MS);
            }
        }
    }

    /** Starts jobs while there are places; returns when to look again at the latest. */
    async #takePlaces(): Promise<number> {
        if (this.#tries.pausedUntil > steadyNow()) return this.#tries.pausedUntil;
        const limit = this.#parts.concurrency + this.#running.size + this.#scanAhead;
        if (this.#isFull()) return Number.POSITIVE_INFINITY;
        const blocked: string[] = [];
        for await (const key of this.#parts.store.keys({ collection: SCHEDULE, limit })) {
            const { time, id } = fromOrderedKey(key);
            await this.#takeHeld(time);
            if (this.#isFull() || blocked.length >= HOLD_BATCH) break;
            if (this.#running.has(id)) continue;
            const job = await loadJob(this.#parts.store, id);
            if (job === undefined || isFinal(job.state)) {
                // The job's record was lost to damage: its place in the schedule means nothing any more.
                await this.#parts.store.commit([{ collection: SCHEDULE, key }]);
                this.#fillAgain = true;
                continue;
            }
            if (!isPlaceOf(job, SCHEDULE, key)) {
                await this.#tidy(id, SCHEDULE, key);
                continue;
            }
            if (!this.#open) break;
            if (this.#held.mustWait(job)) blocked.push(id);
            else void this.#begin(job).then(() => this.poke());
        }
        await this.#takeHeld(Number.POSITIVE_INFINITY);
        this.#scanAhead = blocked.length > 0 ? HOLD_BATCH : 0;
        if (blocked.length > 0) {
            await this.#held.put(blocked);
            this.#fillAgain = true;
        }
        return this.#held.opensAt();
    }

    /** Takes a row away whose job has its place elsewhere: it went there since the list was read, or damage left the row. */
    async #tidy(id: string, collection: string, key: string): Promise<void> {
        await this.#parts.locks.hold([id], async () => {
            const job = await loadJob(this.#parts.store, id);
            if (job === undefined || !isPlaceOf(job, collection, key))
                await this.#parts.store.commit([{ collection, key }]);
        });
    }

    /** Starts held jobs that are due before a time and whose source is open. */
    async #takeHeld(before: number): Promise<void> {
        while (this.#open && !this.#isFull()) {
            const job = await this.#held.next(before, (id) => this.#running.has(id), this.#running.size);
            if (job === undefined || !this.#open) return;
            void this.#begin(job).then(() => this.poke());
        }
    }

    #isFull(): boolean {
        return this.#running.size >= this.#parts.concurrency;
    }

    /** Moves jobs whose wait is over into the schedule; returns when the next one's is. */
    async #promoteWaiting(): Promise<number> {
        for await (const key of this.#parts.store.keys({ collection: WAITING, limit: 64 })) {
            const { time, id } = fromOrderedKey(key);
            const left = time - steadyNow();
            // Nobody waits longer: the clock was wrong when this was journaled.
            if (left > 0 && left <= LONGEST_WAIT_MS) return time;
            const job = await loadJob(this.#parts.store, id);
            const isThere = job !== undefined && isPlaceOf(job, WAITING, key);
            const after = isThere ? await this.#tries.advance(job, { type: "promote" }) : undefined;
            if (after === undefined) await this.#parts.store.commit([{ collection: WAITING, key }]);
            this.#fillAgain = true;
        }
        return Number.POSITIVE_INFINITY;
    }

    #wakeAt(time: number): void {
        clearTimeout(this.#timer);
        if (!this.#open || time === Number.POSITIVE_INFINITY) return;
        const delay = Math.min(Math.max(0, time - steadyNow()), 2 ** 31 - 1);
        this.#timer = setTimeout(() => this.poke(), delay);
    }

    /** Gives a job its place and one try; never rejects. Resolves with the job as it stands afterwards. */
    #begin(job: Job): Promise<Job | undefined> {
        const controller = new AbortController();
        if (!this.#open) controller.abort(new MediaError("CLOSED"));
        const leave = this.#parts.gate.enter(job);
        const ended = this.#places
            .add(() => this.#tries.run(job, controller.signal))
            .finally(() => {
                leave();
                this.#running.delete(job.id);
            });
        this.#running.set(job.id, { controller, ended });
        return ended;
    }
}

/** When a job that becomes ready now is due. */
export function dueFromNow({ size, backfill, expiresAt, at }: Job): number {
    return dueTime({ readyAt: Date.now(), size, backfill, expiresAt, isThumbnail: isThumbnail(at) });
}
