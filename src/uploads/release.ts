import type { Write } from "../store/store.ts";
import { type Job, mayMove } from "./job.ts";
import { jobWrites } from "./job-records.ts";
import { dueTime, isThumbnail } from "./priority.ts";
import { transition } from "./transition.ts";

/** How a job becomes ready to be worked, once its event is in its room. */

/** A job that becomes ready with the next commit of its holder, who then calls one of the two. */
export interface Release {
    readonly job: Job;
    readonly writes: readonly Write[];
    /** Whether it has a place, and begins with the commit. @default false */
    readonly isBegun?: boolean;
    /** They are journaled. */
    confirm(): void;
    /** They never were. */
    undo(): void;
}

/** A job whose event is in its room; undefined where it waits for none. */
export function released(job: Job): Job | undefined {
    return transition(job, { type: "release", dueAt: dueFromNow(job) });
}

/** The writes that make a reserved job ready; the caller commits them and calls the queue's `poke()`. */
export function releaseWrites(job: Job): { job: Job; writes: Write[] } {
    const after = released(job);
    return after === undefined ? { job, writes: [] } : { job: after, writes: jobWrites(job, after) };
}

/** When a job that becomes ready now is due. */
export function dueFromNow(job: Job): number {
    const { size, backfill, expiresAt, at } = job;
    const isBound = !mayMove(job);
    return dueTime({ readyAt: Date.now(), size, backfill, expiresAt, isBound, isThumbnail: isThumbnail(at) });
}
