import { randomUUID } from "node:crypto";
import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import type { Job } from "../uploads/job.ts";
import { loadJob } from "../uploads/job-records.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import type { Reservation } from "./reservations.ts";

/** What stands in a job's place after its address has ended, and how it is found. */

/** Replacements that are followed from one job: one a day for years. */
const LONGEST_CHAIN = 1000;

/**
 * The job that takes `job`'s place with another address: everything of the file and its turn as before, everything of
 * the address anew.
 */
export function successorOf(job: Job, reservation: Reservation, lost: boolean, now: number): Job {
    const { contentUri, expiresAt, presigned } = reservation;
    return {
        ...job,
        id: randomUUID(),
        state: "ready",
        createdAt: now,
        contentUri,
        expiresAt,
        presigned,
        // At the new address nothing was encrypted with another key.
        encryption: job.encryption && { ...job.encryption, renewed: false },
        replaces: job.id,
        replacedBy: undefined,
        // Into the schedule: the lists of sources know only whom they took in themselves.
        heldFor: undefined,
        waits: undefined,
        addressesLost: (job.addressesLost ?? 0) + (lost ? 1 : 0),
    };
}

/** A job, or the one that has its place by now; undefined when its record is gone. */
export async function newestJob(store: Store, id: string): Promise<Job | undefined> {
    let current = id;
    for (let step = 0; step < LONGEST_CHAIN; step++) {
        const job = await loadJob(store, current);
        if (job?.state !== "replaced" || job.replacedBy === undefined) return job;
        current = job.replacedBy;
    }
    return undefined;
}

/** Ends a job, or the one that has its place by the time it has ended. Rejects with JOB_UNKNOWN. */
export async function endJob(store: Store, queue: UploadQueue, id: string): Promise<void> {
    for (let current: string | undefined = id; current !== undefined; ) {
        await queue.cancel(current);
        // Its address may just have been replaced.
        current = (await loadJob(store, current))?.replacedBy;
    }
}

/** Ends a message's jobs. One whose record was lost to damage has no end. */
export async function endJobs(store: Store, queue: UploadQueue, ids: readonly string[]): Promise<void> {
    for (const id of ids) {
        await endJob(store, queue, id).catch((error: unknown) => {
            if (!(error instanceof MediaError) || error.code !== "JOB_UNKNOWN") throw error;
        });
    }
}

/** The jobs that `job` took the place of, its own predecessor first. */
export async function predecessorsOf(store: Store, job: Job): Promise<Job[]> {
    const found: Job[] = [];
    for (let id = job.replaces; id !== undefined && found.length < LONGEST_CHAIN; ) {
        const before = await loadJob(store, id);
        if (before === undefined) break;
        found.push(before);
        id = before.replaces;
    }
    return found;
}
