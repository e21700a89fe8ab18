import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Store, Write } from "../store/store.ts";
import { mustPrepare, type Prepared } from "./encryption/job-encryption.ts";
import { isFinal, type Job, type JobEvent, transition } from "./job.ts";
import { fromOrderedKey, jobWrites, loadJob, SCHEDULE, WAITING } from "./job-records.ts";
import { HeldJobs } from "./held-jobs.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import { dueTime, isThumbnail } from "./priority.ts";
import type { SourceGate } from "./source-gate.ts";
import { Verdicts } from "./verdicts.ts";
import type { Transferred, TransferWatch } from "./transfer.ts";

/**
 * The bounded queue of upload jobs.
 *
 * The backlog lives in the store, sorted by due time; in memory are only the jobs under way, at most `concurrency`.
 * When a place is free, the first job of the schedule that is not under way gets it. A job that must wait lies in a
 * second list, sorted by the time until which it waits, and is moved over when that has come.
 *
 * Every step is committed before the next is taken, and a job under way keeps its place in the schedule: whenever the
 * process dies, the next one finds the work where it was. A job whose source must not be asked now (source-gate.ts) is
 * moved to that source's own list (held-jobs.ts), and the next one gets its place. While the homeserver itself is failing, no new job begins:
 * one after the other would fail for a reason that is none of its own.
 */
export interface UploadQueueParts {
    readonly store: Store;
    readonly logger: Logger;
    readonly concurrency: number;
    readonly maxAttempts: number;
    readonly gate: SourceGate;
    /** Held by whoever changes a job that is not under way, from reading it until the change is journaled. */
    readonly locks: KeyedLocks;
    /** One try. Rejects with a MediaError. */
    readonly transfer: (job: Job, signal: AbortSignal, watch: TransferWatch) => Promise<Transferred>;
    /** Ends a transfer that left its bytes in a storage; returns the MXC URI. Rejects with a MediaError. */
    readonly complete: (job: Job, signal: AbortSignal) => Promise<string>;
    /**
     * Asked when a job has its place, and with `lost` when the homeserver no longer knows its address. Resolves with
     * the job as journaled when another one has taken its place, and with undefined when it is to go on.
     */
    readonly renew: (job: Job, lost: boolean, signal: AbortSignal) => Promise<Job | undefined>;
    /** Encrypts a file of an encrypted room, so that its event can be sent. Rejects with a MediaError. */
    readonly prepare: (job: Job, signal: AbortSignal, watch: TransferWatch) => Promise<Prepared>;
    /** What has to be journaled in the same step as a job's change. */
    readonly alongside: (before: Job, after: Job) => readonly Write[];
    /** What becomes of a job whose turn has come: as it then stands, or undefined when it is not to be worked now. */
    readonly beforeBegin: (job: Job) => Promise<Job | undefined>;
    /** Whether another job goes on in place of one that would fail. */
    readonly handOver: (job: Job, error: MediaError) => Promise<boolean>;
    /** Told after each journaled change, and now and then while bytes flow. */
    readonly onChange: (job: Job, transferredBytes: number) => void;
}

interface Run {
    readonly controller: AbortController;
    readonly ended: Promise<Job | undefined>;
}

/** How often progress is told, at most. */
const PROGRESS_MS = 250;
/** A journal that cannot be written is tried again so often. */
const STORE_RETRY_MS = 1000;
/** Jobs that are moved out of the schedule in one step when their source is closed. */
const HOLD_BATCH = 256;

export class UploadQueue {
    readonly #parts: UploadQueueParts;
    readonly #places: PQueue;
    readonly #running = new Map<string, Run>();
    #filling: Promise<void> | undefined;
    #fillAgain = false;
    #timer: NodeJS.Timeout | undefined;
    readonly #verdicts: Verdicts;
    #open = false;
    readonly #held: HeldJobs;
    #scanAhead = 0;

    constructor(parts: UploadQueueParts) {
        this.#parts = parts;
        this.#verdicts = new Verdicts(parts);
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
            const delay = (current.notBefore ?? 0) - Date.now();
            if (delay > 0) await sleep(delay, undefined, { signal });
            await this.#begin(current);
            // As journaled: it may have been cancelled between two tries.
            current = (await loadJob(this.#parts.store, job.id)) ?? current;
        }
        return current;
    }

    /** Ends a job for good. Rejects with JOB_UNKNOWN. Does nothing to a job that has ended. */
    async cancel(id: string): Promise<void> {
        if (!this.#running.has(id)) {
            await this.#parts.locks.hold([id], async () => {
                const job = await loadJob(this.#parts.store, id);
                if (job === undefined) throw new MediaError("JOB_UNKNOWN", { detail: id });
                await this.#advance(job, { type: "cancel", at: Date.now() });
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
        const after = await this.#advance(job, { type: "retry", dueAt: dueFromNow(job) });
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
                this.#wakeAt(Date.now() + STORE_RETRY_MS);
            }
        }
    }

    /** Starts jobs while there are places; returns when to look again at the latest. */
    async #takePlaces(): Promise<number> {
        if (this.#verdicts.pausedUntil > Date.now()) return this.#verdicts.pausedUntil;
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
            // Postponed since the schedule was read: the list of those who wait has it now, or of those who follow.
            if (job.notBefore !== undefined || job.follows === true) continue;
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
            if (time > Date.now()) return time;
            const job = await loadJob(this.#parts.store, id);
            const after = job && (await this.#advance(job, { type: "promote" }));
            if (after === undefined) await this.#parts.store.commit([{ collection: WAITING, key }]);
            this.#fillAgain = true;
        }
        return Number.POSITIVE_INFINITY;
    }

    #wakeAt(time: number): void {
        clearTimeout(this.#timer);
        if (!this.#open || time === Number.POSITIVE_INFINITY) return;
        const delay = Math.min(Math.max(0, time - Date.now()), 2 ** 31 - 1);
        this.#timer = setTimeout(() => this.poke(), delay);
    }

    /** Gives a job its place and one try; never rejects. Resolves with the job as it stands afterwards. */
    #begin(job: Job): Promise<Job | undefined> {
        const controller = new AbortController();
        if (!this.#open) controller.abort(new MediaError("CLOSED"));
        const leave = this.#parts.gate.enter(job);
        const ended = this.#places
            .add(() => this.#run(job, controller.signal))
            .finally(() => {
                leave();
                this.#running.delete(job.id);
            });
        this.#running.set(job.id, { controller, ended });
        return ended;
    }

    async #run(job: Job, signal: AbortSignal): Promise<Job | undefined> {
        let current = job;
        try {
            signal.throwIfAborted();
            const chosen = await this.#parts.beforeBegin(current);
            if (chosen === undefined) return await this.#putAside(job.id, signal);
            const begun = await this.#takeUp(chosen);
            if (begun === undefined) return undefined;
            current = begun;
            const watch: TransferWatch = {
                onBytes: this.#progressOf(current),
                onRefreshed: async (source) => {
                    current = (await this.#advance(current, { type: "refresh", source })) ?? current;
                },
            };
            if (mustPrepare(current)) {
                const prepared = await this.#parts.prepare(current, signal, watch);
                this.#parts.gate.succeeded(current);
                current = (await this.#settle(current, { type: "prepare", prepared })) ?? current;
                signal.throwIfAborted();
                // Not in the queue yet: its event comes first.
                if (current.state !== "transferring") return current;
            }
            const replaced = await this.#parts.renew(current, false, signal);
            if (replaced !== undefined) return replaced;
            if (current.state !== "completing") {
                const { size, contentUri, isStored } = await this.#parts.transfer(current, signal, watch);
                this.#parts.gate.succeeded(current);
                if (isStored !== true) return await this.#finish(current, size, contentUri);
                // Journaled before the homeserver hears of it: from here on the bytes need not go out again.
                const stored = await this.#settle(current, { type: "stored", size });
                if (stored === undefined) return undefined;
                current = stored;
            }
            const contentUri = await this.#parts.complete(current, signal);
            return await this.#finish(current, current.size ?? 0, contentUri);
        } catch (thrown) {
            return await this.#afterThrown(current, asMediaError(thrown), signal);
        }
    }

    #finish(job: Job, size: number, contentUri: string): Promise<Job | undefined> {
        this.#verdicts.succeeded();
        return this.#settle(job, { type: "finish", size, contentUri, at: Date.now() });
    }

    /** A job whose turn went to another one; it may have been cancelled at that very moment. */
    async #putAside(id: string, { aborted, reason }: AbortSignal): Promise<Job | undefined> {
        const job = await loadJob(this.#parts.store, id);
        const isCancelled = aborted && asMediaError(reason).code === "CANCELLED";
        return job !== undefined && isCancelled ? this.#settle(job, { type: "cancel", at: Date.now() }) : job;
    }

    /** Begins the job as it stands now: since the schedule was read it may have been cancelled or replaced. */
    #takeUp(job: Job): Promise<Job | undefined> {
        return this.#parts.locks.hold([job.id], async () =>
            this.#advance((await loadJob(this.#parts.store, job.id)) ?? job, { type: "begin" }),
        );
    }

    async #afterThrown(job: Job, error: MediaError, signal: AbortSignal): Promise<Job | undefined> {
        let reason = error;
        if (error.code === "RESERVATION_GONE") {
            try {
                const replaced = await this.#parts.renew(job, true, signal);
                if (replaced !== undefined) return replaced;
            } catch (thrown) {
                reason = asMediaError(thrown);
            }
        }
        const event = this.#verdicts.after(job, reason);
        if (event.type === "fail" && (await this.#parts.handOver(job, event.error)))
            return this.#putAside(job.id, signal);
        return this.#settle(job, event);
    }

    /** Journals how a try ended, for as long as the disk may refuse: the outcome must not be forgotten. */
    async #settle(job: Job, event: JobEvent): Promise<Job | undefined> {
        while (true) {
            try {
                return await this.#advance(job, event);
            } catch (error) {
                this.#parts.logger.error("The end of an upload could not be journaled", { jobId: job.id, error });
                if (!this.#open) return undefined;
                await sleep(STORE_RETRY_MS);
            }
        }
    }

    async #advance(before: Job, event: JobEvent): Promise<Job | undefined> {
        const after = transition(before, event);
        if (after === undefined) return undefined;
        await this.#parts.store.commit([...jobWrites(before, after), ...this.#parts.alongside(before, after)]);
        this.#parts.onChange(after, after.state === "done" || after.state === "completing" ? (after.size ?? 0) : 0);
        return after;
    }

    #progressOf(job: Job): (total: number) => void {
        let next = 0;
        return (total) => {
            const now = Date.now();
            if (now < next) return;
            next = now + PROGRESS_MS;
            this.#parts.onChange(job, total);
        };
    }
}

/** When a job that becomes ready now is due. */
export function dueFromNow({ size, backfill, expiresAt, at }: Job): number {
    return dueTime({ readyAt: Date.now(), size, backfill, expiresAt, isThumbnail: isThumbnail(at) });
}
