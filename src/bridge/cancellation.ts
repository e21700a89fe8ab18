import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { Job } from "../uploads/job.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import type { Spool } from "../uploads/sources/spool.ts";
import { locksOf } from "./edits.ts";
import type { Endings } from "./endings.ts";
import type { Outcomes } from "./outcomes.ts";
import { loadMessage, type MessageRecord, messageWrite, OUTBOX, outboxKey, reviseMark } from "./records.ts";
import type { Revisions } from "./revisions.ts";
import { endJob, endJobs, newestJob } from "./successor.ts";
import type { Withdrawals } from "./withdrawals.ts";

/**
 * Takes uploads and whole messages back. What is wanted is journaled in the message first: an event that is on its way
 * may arrive all the same, also after a crash, and is then redacted where that was asked for.
 */
export interface CancellationParts {
    readonly store: Store;
    readonly spool: Spool;
    readonly queue: UploadQueue;
    readonly endings: Endings;
    readonly revisions: Revisions;
    readonly outcomes: Outcomes;
    readonly withdrawals: Withdrawals;
    readonly messageLocks: KeyedLocks;
}

export class Cancellation {
    readonly #parts: CancellationParts;

    /** Messages whose withdrawal is not journaled yet. */
    readonly #noting = new Set<Promise<unknown>>();

    constructor(parts: CancellationParts) {
        this.#parts = parts;
    }

    /** Resolves when every withdrawal that was asked for is journaled, or has failed to be. */
    async quiet(): Promise<void> {
        await Promise.allSettled(this.#noting);
    }

    /** Ends a job, or the one that has its place, and frees its bytes. Without its event a message's other files have no place either. */
    async job(id: string, redact: boolean): Promise<void> {
        const job = await newestJob(this.#parts.store, id);
        if (job === undefined) throw new MediaError("JOB_UNKNOWN", { detail: id });
        if (redact && job.messageId !== undefined) return this.message(job.messageId, true);
        await this.#endUnseen(job);
        await endJob(this.#parts.store, this.#parts.queue, job.id);
        await this.#parts.spool.quiet();
    }

    /** Ends a job whose message no lane has begun to deliver: its address is for another file. */
    async #endUnseen({ id, messageId }: Job): Promise<void> {
        if (messageId === undefined) return;
        const { store, queue, messageLocks } = this.#parts;
        await messageLocks.hold([messageId], async () => {
            const message = await loadMessage(store, messageId);
            if (message?.state !== "queued" || (await this.#isForTheLane(message))) return;
            await queue.cancel(id, true);
        });
    }

    /** Ends a message's jobs and frees their bytes. One that has no event yet is never sent. Resolves when that is certain. */
    async message(id: string, redact: boolean): Promise<void> {
        const { store, revisions } = this.#parts;
        const noting = this.#withOriginal(id, async () => {
            const message = await loadMessage(store, id);
            if (message === undefined) throw new MediaError("MESSAGE_UNKNOWN", { detail: id });
            if (message.state !== "queued") await this.#note(message, redact);
            else if (await this.#isForTheLane(message)) return this.#tellLane(message, redact);
            else await this.#parts.endings.takeOut(message);
            return undefined;
        });
        this.#noting.add(noting);
        const settled = await noting.finally(() => this.#noting.delete(noting));
        await settled?.outcome;
        const message = await loadMessage(store, id);
        await endJobs(store, this.#parts.queue, message?.jobs ?? []);
        revisions.poke();
        await this.#parts.spool.quiet();
    }

    /** Runs `task` while the message's lock is held and, for an edit, that of the message it edits. */
    async #withOriginal<T>(id: string, task: () => Promise<T>): Promise<T> {
        const edits = (await loadMessage(this.#parts.store, id))?.edits;
        return this.#parts.messageLocks.hold(locksOf(id, edits), task);
    }

    /** Only the first of a line can have been sent, by an earlier try or a former process: its lane finds out. */
    async #isForTheLane(message: MessageRecord): Promise<boolean> {
        const { store, withdrawals } = this.#parts;
        if (withdrawals.isUnderWay(message.id)) return true;
        const line = { collection: OUTBOX, prefix: `${message.roomId} `, limit: 1 };
        for await (const key of store.keys(line)) return key === outboxKey(message);
        return false;
    }

    async #tellLane(message: MessageRecord, redact: boolean): Promise<{ outcome: Promise<unknown> }> {
        const { store, outcomes, withdrawals } = this.#parts;
        await store.commit([messageWrite({ ...message, withdrawn: true, redact: redact || message.redact })]);
        // Listening before the lane hears of it. Not awaited here: the lane journals its outcome under this lock.
        const outcome = outcomes.of(message.id);
        withdrawals.tell(message.id);
        return { outcome };
    }

    async #note(message: MessageRecord, redact: boolean): Promise<void> {
        if (!redact || message.state === "refused" || message.redacted === true) return;
        await this.#parts.store.commit([messageWrite({ ...message, redact: true }), reviseMark(message.id)]);
    }
}
