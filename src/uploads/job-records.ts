import type { Store, StoredRecord, Write } from "../store/store.ts";
import { renewAt } from "./expiry.ts";
import { type Job, type JobState, mayMove } from "./job.ts";

/** Upload jobs as the journal keeps them: their records, and the sorted lists in which they wait. */

export const JOBS = "job";
/** Ready jobs in the order in which they are to be worked: `<dueAt> <job id>`. */
export const SCHEDULE = "schedule";
/** Ready jobs that must wait for a time: `<notBefore> <job id>`. */
export const WAITING = "waiting";
/** Ready jobs that may have another address, where theirs ends: `<time to replace it> <job id>`. */
export const EXPIRING = "expiring";
/** Ready jobs whose source is closed: `<source> <dueAt> <job id>`. */
export const HELD = "held";

/** Jobs that follow another one, those first that would be due first: `<key of the file> <dueAt> <job id>`. */
export const FOLLOWING = "following";

/** The writes that take the journal from one state of a job to the next, its place in the queue included. */
export function jobWrites(before: Job | undefined, after: Job): Write[] {
    const old = before && place(before);
    const now = place(after);
    const writes: Write[] = [{ collection: JOBS, key: after.id, record: after as unknown as StoredRecord }];
    if (old !== undefined && (old.collection !== now?.collection || old.key !== now.key)) writes.push(old);
    if (now !== undefined) writes.push({ ...now, record: {} });
    const oldEnd = before && expiringKey(before);
    const end = expiringKey(after);
    if (oldEnd !== undefined && oldEnd !== end) writes.push({ collection: EXPIRING, key: oldEnd });
    if (end !== undefined && oldEnd !== end) writes.push({ collection: EXPIRING, key: end, record: {} });
    return writes;
}

/** The writes that put a job into the lists where it belongs. */
export function placeWrites(job: Job): Write[] {
    const own = place(job);
    const end = expiringKey(job);
    return [
        ...(own === undefined ? [] : [{ ...own, record: {} }]),
        ...(end === undefined ? [] : [{ collection: EXPIRING, key: end, record: {} }]),
    ];
}

/** Whether a list has the job where it belongs; a row that damage has left behind is none of its places. */
export function isPlaceOf(job: Job, collection: string, key: string): boolean {
    const own = place(job);
    return own?.collection === collection && own.key === key;
}

const SCHEDULED: ReadonlySet<JobState> = new Set(["ready", "transferring", "completing"]);

function place(job: Job): { collection: string; key: string } | undefined {
    // A job that is being transferred keeps its place, so that a restart finds it where it was.
    if (!SCHEDULED.has(job.state) || job.dueAt === undefined) return undefined;
    if (job.follows === true) return { collection: FOLLOWING, key: `${job.dedupe} ${orderedKey(job.dueAt, job.id)}` };
    if (job.notBefore === undefined && job.heldFor !== undefined)
        return { collection: HELD, key: `${job.heldFor} ${orderedKey(job.dueAt, job.id)}` };
    return job.notBefore === undefined
        ? { collection: SCHEDULE, key: orderedKey(job.dueAt, job.id) }
        : { collection: WAITING, key: orderedKey(job.notBefore, job.id) };
}

/** Only what waits is replaced ahead of its turn. */
function expiringKey(job: Job): string | undefined {
    if (job.state !== "ready" || !mayMove(job) || job.contentUri === undefined) return undefined;
    const at = renewAt(job);
    return at === undefined ? undefined : orderedKey(at, job.id);
}

/**
 * Takes a row away whose job has its place elsewhere: it went there since the list was read, or damage left the row. To be
 * called while the job's lock is held.
 */
export async function tidyRow(store: Store, id: string, collection: string, key: string): Promise<void> {
    const job = await loadJob(store, id);
    if (job === undefined || !isPlaceOf(job, collection, key)) await store.commit([{ collection, key }]);
}

/** A key that sorts by time first. Times are milliseconds since the epoch, 15 digits last beyond the year 30000. */
export function orderedKey(time: number, id: string): string {
    return `${Math.max(0, Math.round(time)).toString().padStart(15, "0")} ${id}`;
}

export function fromOrderedKey(key: string): { time: number; id: string } {
    return { time: Number(key.slice(0, 15)), id: key.slice(16) };
}

/** Of a list that is sorted by something else first: the source of *held*, the file of *following*. */
export function fromGroupedKey(key: string): { group: string; time: number; id: string } {
    const blank = key.indexOf(" ");
    return { group: key.slice(0, blank), ...fromOrderedKey(key.slice(blank + 1)) };
}

/** A job as the journal gave it back. Records prove themselves by checksum, so the shape is taken as written. */
export function jobFrom(record: StoredRecord): Job {
    return record as unknown as Job;
}

/** Undefined where there is none, or its record was lost to damage. */
export async function loadJob(store: Store, id: string): Promise<Job | undefined> {
    const record = await store.get(JOBS, id);
    return record && jobFrom(record);
}
