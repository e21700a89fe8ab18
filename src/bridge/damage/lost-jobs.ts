import { ERRORS } from "../../errors.ts";
import type { Store, Write } from "../../store/store.ts";
import type { Job } from "../../uploads/job.ts";
import { jobWrites, loadJob } from "../../uploads/job-records.ts";
import { finishedWrite, type MessageRecord, reviseMark } from "../records.ts";

/**
 * A message's file whose record was lost: nobody knows any more where its bytes were to come from. A failed job takes its
 * place, so that the room is told as after any other failure.
 * @param hasEnded Of which files it is known that they had come to their end: the room shows that end.
 */
export async function lostJobWrites(
    store: Store,
    message: MessageRecord,
    hasEnded: (jobId: string) => boolean = () => false,
): Promise<{ lost: Job[]; writes: Write[] }> {
    const lost: Job[] = [];
    const writes: Write[] = [];
    for (const [index, id] of message.jobs.entries()) {
        if (hasEnded(id) || (await loadJob(store, id)) !== undefined) continue;
        const job = failedInPlaceOf(id, message, message.places?.[index]);
        lost.push(job);
        writes.push(...jobWrites(undefined, job), finishedWrite(job.finishedAt ?? 0, "job", id));
    }
    if (lost.length > 0) writes.push(reviseMark(message.id));
    return { lost, writes };
}

function failedInPlaceOf(id: string, { id: messageId, roomId, sender }: MessageRecord, at?: readonly string[]): Job {
    const now = Date.now();
    return {
        id,
        state: "failed",
        uploader: sender,
        // Nothing lies there: a retry ends with SPOOL_MISSING.
        source: { kind: "spool", name: id },
        createdAt: now,
        backfill: false,
        messageId,
        roomId,
        at,
        attempts: 0,
        error: { code: "STORE_DAMAGED", message: ERRORS.STORE_DAMAGED.message },
        failedAt: now,
        finishedAt: now,
        revived: true,
    };
}
