import { EventEmitter } from "node:events";
import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { isFinal, type Job, thrownAgain } from "../uploads/job.ts";
import { loadJob } from "../uploads/job-records.ts";
import type { JobInfo } from "./message.ts";

/**
 * A job as it may be shown: its source, which may hold credentials, is left out, and whoever is shown it may do with it what
 * they like.
 */
export function jobInfo(job: Job, transferredBytes: number): JobInfo {
    const { id, state, uploader, contentUri, messageId, roomId, filename, mimetype, size, attempts } = job;
    return {
        id,
        state,
        uploader,
        contentUri,
        messageId,
        roomId,
        at: job.at?.slice(),
        filename,
        mimetype,
        size,
        attempts,
        error: job.error && { ...job.error },
        transferredBytes,
        createdAt: job.createdAt,
        finishedAt: job.finishedAt,
        replacedBy: job.replacedBy,
    };
}

/**
 * Answers "when is it done?" for as many jobs as somebody asks about, and no more: with a backlog of a hundred
 * thousand jobs, only those whose `done` was read are held in memory.
 */
export class JobEnds {
    readonly #store: Store;
    readonly #ends = new EventEmitter().setMaxListeners(0);
    #closed = false;

    constructor(store: Store) {
        this.#store = store;
    }

    ended(job: Job): void {
        this.#ends.emit(job.id, job);
    }

    /** Lets go of everybody who still waits, and of whoever asks from here on. */
    close(): void {
        this.#closed = true;
        for (const id of this.#ends.eventNames()) this.#ends.emit(id, undefined);
    }

    /** Resolves when the job, or the one that has its place by then, is done; rejects with a MediaError when it failed, was cancelled or swept, or with CLOSED. */
    async of(id: string): Promise<JobInfo> {
        for (let current = id; ; ) {
            const job = await this.#endOf(current);
            if (job?.state !== "replaced" || job.replacedBy === undefined) return outcome(job);
            current = job.replacedBy;
        }
    }

    async #endOf(id: string): Promise<Job | undefined> {
        if (this.#closed) throw new MediaError("CLOSED");
        let listener: (job: Job | undefined) => void = () => {};
        const told = new Promise<Job | undefined>((resolve) => {
            listener = resolve;
            this.#ends.once(id, listener);
        });
        // Only after listening, or an end in between would be missed.
        const job = await loadJob(this.#store, id).catch((error: unknown) => {
            this.#ends.removeListener(id, listener);
            throw error;
        });
        if (job !== undefined && !isFinal(job.state)) return told;
        this.#ends.removeListener(id, listener);
        if (job === undefined) throw new MediaError("JOB_UNKNOWN", { detail: id });
        return job;
    }
}

/** What a caller holds of a job. `done` is asked for only when somebody looks; and whoever looks need not handle a failure. */
export function handleOf<Uri extends string | undefined>(ends: JobEnds, jobId: string, contentUri: Uri) {
    let done: Promise<JobInfo> | undefined;
    return {
        jobId,
        contentUri,
        get done(): Promise<JobInfo> {
            if (done === undefined) {
                done = ends.of(jobId);
                done.catch(() => {});
            }
            return done;
        },
    };
}

function outcome(job: Job | undefined): JobInfo {
    if (job === undefined) throw new MediaError("CLOSED");
    if (job.state === "done") return jobInfo(job, job.size ?? 0);
    const { error } = job;
    if (job.state === "cancelled") throw new MediaError("CANCELLED", error && { cause: thrownAgain(error) });
    throw error === undefined ? new MediaError("INTERNAL") : thrownAgain(error);
}
