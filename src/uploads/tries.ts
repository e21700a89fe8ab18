import { setTimeout as sleep } from "node:timers/promises";
import { asMediaError, type MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { Store, Write } from "../store/store.ts";
import { mustPrepare, type Prepared } from "./encryption/job-encryption.ts";
import type { Job } from "./job.ts";
import { jobWrites, loadJob } from "./job-records.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import type { SourceGate } from "./source-gate.ts";
import type { Transferred, TransferWatch } from "./transfer.ts";
import { type JobEvent, transition } from "./transition.ts";
import { Verdicts } from "./verdicts.ts";

/** What one try of a job is made with. */
export interface TryParts {
    readonly store: Store;
    readonly logger: Logger;
    readonly maxAttempts: number;
    readonly gate: SourceGate;
    /** Held by whoever changes a job that is not under way, from reading it until the change is journaled. */
    readonly locks: KeyedLocks;
    /** Has a job's source opened while its beginning is being journaled. Returns what closes it, unless its transfer has it. */
    readonly openAhead: (job: Job) => () => void;
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
    /** Told after each journaled change, of what the job was `before`, and now and then while bytes flow. */
    readonly onChange: (job: Job, transferredBytes: number, before?: Job) => void;
}

/** How often progress is told, at most. */
const PROGRESS_MS = 250;
/** A journal that cannot be written is tried again so often. */
export const STORE_RETRY_MS = 1000;

/**
 * One try of an upload job, from the place in the queue that it was given to its journaled end. Each step is committed
 * before the next is taken, so that a crash repeats one step at most.
 */
export class Tries {
    readonly #parts: TryParts;
    readonly #verdicts: Verdicts;
    readonly #isOpen: () => boolean;
    readonly #onSourceOpen: () => void;

    /** @param onSourceOpen Told when files that had to wait for their source may go on although no try has ended. */
    constructor(parts: TryParts, isOpen: () => boolean, onSourceOpen: () => void) {
        this.#parts = parts;
        this.#verdicts = new Verdicts(parts);
        this.#isOpen = isOpen;
        this.#onSourceOpen = onSourceOpen;
    }

    /** Milliseconds since the epoch until which no job should begin: the homeserver itself is failing. */
    get pausedUntil(): number {
        return this.#verdicts.pausedUntil;
    }

    /** Never rejects. Resolves with the job as it stands afterwards. */
    async run(job: Job, signal: AbortSignal): Promise<Job | undefined> {
        try {
            signal.throwIfAborted();
            const chosen = await this.#parts.beforeBegin(job);
            if (chosen === undefined) return await this.#putAside(job.id, signal);
            const begun = await this.#takeUp(chosen);
            return begun && (await this.#goOn(begun, signal));
        } catch (thrown) {
            return await this.#afterThrown(job, asMediaError(thrown), signal);
        }
    }

    /** The same for a job that begins with somebody's commit; `journaled` says whether it does. */
    async runWith(journaled: Promise<boolean>, begun: Job, signal: AbortSignal): Promise<Job | undefined> {
        let letGo = (): void => {};
        // A turn of the loop later: the commit is on its way to the disk by then.
        const opening = setImmediate(() => {
            if (!signal.aborted) letGo = this.#parts.openAhead(begun);
        });
        try {
            return (await journaled) ? await this.#goOn(begun, signal) : undefined;
        } finally {
            clearImmediate(opening);
            letGo();
        }
    }

    async #goOn(begun: Job, signal: AbortSignal): Promise<Job | undefined> {
        let current = begun;
        try {
            signal.throwIfAborted();
            const watch: TransferWatch = {
                onBytes: this.#progressOf(current),
                onRefreshed: async (source) => {
                    current = (await this.advance(current, { type: "refresh", source })) ?? current;
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
            this.advance((await loadJob(this.#parts.store, job.id)) ?? job, { type: "begin" }),
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
        const settled = await this.#settle(job, event);
        // It never got under way, because the journal could not be written: not again at once.
        if (settled === undefined && event.type === "postpone")
            await sleep(STORE_RETRY_MS, undefined, { signal }).catch(() => {});
        return settled;
    }

    /** Journals how a try ended, for as long as the disk may refuse: the outcome must not be forgotten. */
    async #settle(job: Job, event: JobEvent): Promise<Job | undefined> {
        while (true) {
            try {
                return await this.advance(job, event);
            } catch (error) {
                this.#parts.logger.error("The end of an upload could not be journaled", {
                    jobId: job.id,
                    error: loggable(error),
                });
                if (!this.#isOpen()) return undefined;
                await sleep(STORE_RETRY_MS);
            }
        }
    }

    /** Makes and journals a change; undefined where it does not apply. */
    async advance(before: Job, event: JobEvent): Promise<Job | undefined> {
        const after = transition(before, event);
        if (after === undefined) return undefined;
        await this.#parts.store.commit([...jobWrites(before, after), ...this.#parts.alongside(before, after)]);
        const hasCome = after.state === "done" || after.state === "completing";
        this.#parts.onChange(after, hasCome ? (after.size ?? 0) : 0, before);
        return after;
    }

    #progressOf(job: Job): (total: number) => void {
        let next = 0;
        let isFirst = true;
        return (total) => {
            if (isFirst && this.#parts.gate.answered(job)) this.#onSourceOpen();
            isFirst = false;
            const now = Date.now();
            if (now < next) return;
            next = now + PROGRESS_MS;
            this.#parts.onChange(job, total);
        };
    }
}
