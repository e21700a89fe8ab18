import type { Logger } from "../../logger.ts";
import type { Store, Write } from "../../store/store.ts";
import { isFinal, type Job } from "../../uploads/job.ts";
import type { EncryptionStrategy } from "../../uploads/encryption/job-encryption.ts";
import { dueFromNow } from "../../uploads/release.ts";
import { fromOrderedKey, JOBS, jobFrom, jobWrites, loadJob, placeWrites } from "../../uploads/job-records.ts";
import type { KeyedLocks } from "../../uploads/keyed-locks.ts";
import { type JobEvent, transition } from "../../uploads/transition.ts";
import {
    FINISHED,
    jobEndWrites,
    loadJobs,
    reviseMark,
    loadMessage,
    type MessageRecord,
    MESSAGES,
    OUTBOX,
    outboxKey,
    outboxWrite,
} from "../records.ts";
import { lostJobWrites } from "./lost-jobs.ts";
import { type LostRecords, lostRecords } from "./lost-records.ts";
import { giveUpRepeated } from "./repeated-addresses.ts";

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
    /** How files of encrypted rooms are prepared. */
    readonly strategy: EncryptionStrategy;
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
    /** Addresses given up because another job has them too. */
    readonly addressesTwice: number;
}

/** Ids of each kind in one line of the log. */
const MAX_NAMED = 100;

export async function reviewJournal(parts: ReviewParts, signal: AbortSignal): Promise<Review> {
    const { store, messageLocks, jobLocks } = parts;
    nameLost(await lostRecords(store, signal), parts.logger);
    const ended = await endedOf(store, await lostOf(store, signal));
    let [putBack, filesLost, jobsWithoutMessage] = [0, 0, 0];
    for await (const [id] of store.range({ collection: MESSAGES })) {
        signal.throwIfAborted();
        const found = await messageLocks.hold([id], () => reviewMessage(id, ended, parts));
        putBack += found.putBack;
        filesLost += found.filesLost;
    }
    for await (const [id, record] of store.range({ collection: JOBS })) {
        signal.throwIfAborted();
        if (isFinal(jobFrom(record).state)) continue;
        const found = await jobLocks.hold([id], () => reviewJob(id, parts));
        if (found === "put back") putBack++;
        if (found === "ended") jobsWithoutMessage++;
    }
    return { putBack, filesLost, jobsWithoutMessage, addressesTwice: await giveUpRepeated(parts, signal) };
}

/** Before anything is mended: what is gone, by the ids under which the bridge and its operator know it. */
function nameLost({ messages, jobs }: LostRecords, logger: Logger): void {
    if (messages.size + jobs.size === 0) return;
    logger.error("Records were lost that the journal still names", {
        messages: [...messages].slice(0, MAX_NAMED),
        messagesLost: messages.size,
        jobs: [...jobs].slice(0, MAX_NAMED),
        jobsLost: jobs.size,
    });
}

/** Jobs that their messages name and that are not there. */
async function lostOf(store: Store, signal: AbortSignal): Promise<Set<string>> {
    const lost = new Set<string>();
    for await (const [, record] of store.range({ collection: MESSAGES })) {
        signal.throwIfAborted();
        const { jobs } = record as unknown as MessageRecord;
        for (const id of jobs) if ((await loadJob(store, id)) === undefined) lost.add(id);
    }
    return lost;
}

/** Those of them of which the list of what has ended still knows. */
async function endedOf(store: Store, lost: ReadonlySet<string>): Promise<Set<string>> {
    const ended = new Set<string>();
    if (lost.size === 0) return ended;
    for await (const key of store.keys({ collection: FINISHED })) {
        const [kind, id = ""] = fromOrderedKey(key).id.split(" ");
        if (kind === "job" && lost.has(id)) ended.add(id);
    }
    return ended;
}

async function reviewMessage(id: string, ended: ReadonlySet<string>, { store, logger, onJob }: ReviewParts) {
    const message = await loadMessage(store, id);
    if (message === undefined) return { putBack: 0, filesLost: 0 };
    const { lost, writes } = await lostJobWrites(store, message, (jobId) => ended.has(jobId));
    const isOutOfLine = await hasLostItsPlace(store, message);
    if (isOutOfLine) writes.push(outboxWrite(message));
    // The mark for an edit may be lost as well; where the room shows the end, looking changes nothing.
    const jobs = message.state === "sent" ? await loadJobs(store, message.jobs) : [];
    if (jobs.some(({ state, revived }) => state !== "done" || revived === true)) writes.push(reviseMark(id));
    await store.commit(writes);
    for (const job of lost) {
        logger.error("A file's record was lost: it is told as failed", { jobId: job.id, messageId: id });
        onJob(job);
    }
    return { putBack: isOutOfLine ? 1 : 0, filesLost: lost.length };
}

async function hasLostItsPlace(store: Store, message: MessageRecord): Promise<boolean> {
    if (message.state !== "queued") return false;
    return (await store.get(OUTBOX, outboxKey(message))) === undefined;
}

async function reviewJob(id: string, parts: ReviewParts): Promise<"put back" | "ended" | undefined> {
    const { store } = parts;
    const job = await loadJob(store, id);
    if (job === undefined || isFinal(job.state)) return undefined;
    if (job.dueAt === undefined) return reviewBeforeItsEvent(job, parts);
    const missing: Write[] = [];
    for (const write of placeWrites(job)) {
        if ((await store.get(write.collection, write.key)) === undefined) missing.push(write);
    }
    await store.commit(missing);
    return missing.length > 0 ? "put back" : undefined;
}

/** A job that waits for its event: that may be out already, or will never be. */
async function reviewBeforeItsEvent(job: Job, { store, logger, onJob, strategy }: ReviewParts) {
    const { id, messageId } = job;
    if (messageId === undefined) return undefined;
    const message = await loadMessage(store, messageId);
    if (message?.state === "queued") return undefined;
    const at = Date.now();
    const steps: JobEvent[] =
        message?.state !== "sent"
            ? [{ type: "cancel", at }]
            : [
                  { type: "park" },
                  ...(message.encrypted === true && job.encryption === undefined
                      ? [{ type: "encrypt", strategy } as const]
                      : []),
                  { type: "release", dueAt: dueFromNow(job) },
              ];
    const after = steps.reduce((current, step) => transition(current, step) ?? current, job);
    if (after.state === job.state) return undefined;
    await store.commit([...jobWrites(job, after), ...jobEndWrites(job, after)]);
    if (message === undefined) logger.error("A file's message was lost before it was sent", { jobId: id, messageId });
    onJob(after);
    return isFinal(after.state) ? ("ended" as const) : ("put back" as const);
}
