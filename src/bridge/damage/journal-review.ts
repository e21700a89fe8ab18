import type { Logger } from "../../logger.ts";
import type { Store, Write } from "../../store/store.ts";
import { isFinal, type Job } from "../../uploads/job.ts";
import { JOBS, jobFrom, jobWrites, loadJob, placeWrites } from "../../uploads/job-records.ts";
import type { KeyedLocks } from "../../uploads/keyed-locks.ts";
import { transition } from "../../uploads/transition.ts";
import {
    finishedWrite,
    loadMessage,
    type MessageRecord,
    MESSAGES,
    OUTBOX,
    outboxKey,
    outboxWrite,
} from "../records.ts";
import { lostJobWrites } from "./lost-jobs.ts";

/**
 * Goes once through the whole journal after damage was found, and makes its records agree again: what is queued has its
 * place in a list, whose record is gone is told as failed, and a job without its message ends. What cannot be helped is
 * named in the log. Runs beside the work, so each record is looked at again under its lock before it is changed.
 */
export interface ReviewParts {
    readonly store: Store;
    readonly logger: Logger;
    readonly messageLocks: KeyedLocks;
    readonly jobLocks: KeyedLocks;
    /** Told about each job that was changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

export interface Review {
    /** Messages and jobs that had lost their place in their list. */
    readonly putBack: number;
    /** Files whose records were lost: each is told as failed in its room. */
    readonly filesLost: number;
    /** Jobs that never begun, of messages that were lost. */
    readonly jobsWithoutMessage: number;
}

export async function reviewJournal(parts: ReviewParts, signal: AbortSignal): Promise<Review> {
    let [putBack, filesLost, jobsWithoutMessage] = [0, 0, 0];
    for await (const [id] of parts.store.range({ collection: MESSAGES })) {
        signal.throwIfAborted();
        const found = await parts.messageLocks.hold([id], () => reviewMessage(id, parts));
        putBack += found.putBack;
        filesLost += found.filesLost;
    }
    for await (const [id, record] of parts.store.range({ collection: JOBS })) {
        signal.throwIfAborted();
        if (isFinal(jobFrom(record).state)) continue;
        const found = await parts.jobLocks.hold([id], () => reviewJob(id, parts));
        if (found === "put back") putBack++;
        if (found === "ended") jobsWithoutMessage++;
    }
    return { putBack, filesLost, jobsWithoutMessage };
}

async function reviewMessage(id: string, { store, logger, onJob }: ReviewParts) {
    const message = await loadMessage(store, id);
    if (message === undefined) return { putBack: 0, filesLost: 0 };
    const { lost, writes } = await lostJobWrites(store, message);
    const isOutOfLine = await hasLost(store, message);
    if (isOutOfLine) writes.push(outboxWrite(message));
    await store.commit(writes);
    for (const job of lost) {
        logger.error("A file's record was lost: it is told as failed", { jobId: job.id, messageId: id });
        onJob(job);
    }
    return { putBack: isOutOfLine ? 1 : 0, filesLost: lost.length };
}

async function hasLost(store: Store, message: MessageRecord): Promise<boolean> {
    if (message.state !== "queued") return false;
    return (await store.get(OUTBOX, outboxKey(message))) === undefined;
}

async function reviewJob(id: string, { store, logger, onJob }: ReviewParts): Promise<"put back" | "ended" | undefined> {
    const job = await loadJob(store, id);
    if (job === undefined || isFinal(job.state)) return undefined;
    if (job.dueAt === undefined) {
        const { messageId } = job;
        if (messageId === undefined || (await loadMessage(store, messageId)) !== undefined) return undefined;
        logger.error("A file's message was lost before it was sent", { jobId: id, messageId });
        const at = Date.now();
        const after = transition(job, { type: "cancel", at });
        if (after === undefined) return undefined;
        await store.commit([...jobWrites(job, after), finishedWrite(at, "job", id)]);
        onJob(after);
        return "ended";
    }
    const missing: Write[] = [];
    for (const write of placeWrites(job)) {
        if ((await store.get(write.collection, write.key)) === undefined) missing.push(write);
    }
    await store.commit(missing);
    return missing.length > 0 ? "put back" : undefined;
}
