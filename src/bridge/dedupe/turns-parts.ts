import type { Store, Write } from "../../store/store.ts";
import { isFinal, type Job } from "../../uploads/job.ts";
import { jobWrites } from "../../uploads/job-records.ts";
import type { KeyedLocks } from "../../uploads/keyed-locks.ts";
import { type JobEvent, transition } from "../../uploads/transition.ts";
import { newestJob } from "../successor.ts";
import type { Followers } from "./followers.ts";
import type { KnownFiles } from "./known-files.ts";
import type { SharedFile } from "./shared-file.ts";

/** What is at hand where it is decided who leads a file, at a job's turn (turns.ts), with its event, and after a leader's end. */
export interface TurnsParts {
    readonly store: Store;
    readonly files: KnownFiles;
    readonly followers: Followers;
    /** Those that the queue's jobs are changed under. */
    readonly jobLocks: KeyedLocks;
    /** What has to be journaled in the same step as a job's change. */
    readonly alongside: (before: Job, after: Job) => readonly Write[];
    /** Told after each journaled change. */
    readonly onJob: (job: Job) => void;
    /** Told of a job that something new waits for, and when that is due: from then on it is no history. */
    readonly hasten: (jobId: string, dueAt: number) => void;
    /** Told when a job has got a turn of its own. */
    readonly onTurn: () => void;
    /** Told of a file whose followers may have lost their leader. */
    readonly onLeaderless: (key: string) => void;
}

/** Whether it may lead, or does. */
export function isAlive(job: Job): boolean {
    return !isFinal(job.state) && job.follows !== true;
}

/** The job that leads now: one that was replaced has passed the lead on. */
export async function leaderOf(store: Store, { leader }: SharedFile): Promise<Job | undefined> {
    return leader === undefined ? undefined : newestJob(store, leader);
}

/** Has whom a job follows go with what is new, where the job is. */
export function hastenFor({ hasten }: TurnsParts, { backfill, dueAt = Date.now() }: Job, leader?: string): void {
    if (!backfill && leader !== undefined) hasten(leader, dueAt);
}

/** Makes and journals a change, where it applies. */
export async function change(parts: TurnsParts, job: Job, event: JobEvent): Promise<void> {
    const after = transition(job, event);
    if (after !== undefined) await commitChange(parts, job, after, []);
}

/** Journals a change with what else belongs into that step. */
export async function commitChange(
    { store, alongside, onJob }: TurnsParts,
    before: Job,
    after: Job,
    writes: readonly Write[],
): Promise<void> {
    await store.commit([...jobWrites(before, after), ...alongside(before, after), ...writes]);
    onJob(after);
}
