import type { Store, Write } from "../../store/store.ts";
import { type Job, mayMove, type StoredError, thrownAgain } from "../../uploads/job.ts";
import { type JobEvent, transition } from "../../uploads/transition.ts";
import { FOLLOWING, fromGroupedKey, jobWrites, loadJob } from "../../uploads/job-records.ts";
import type { KeyedLocks } from "../../uploads/keyed-locks.ts";

/** The jobs that wait for another one's transfer of their file, however many: read and ended in batches. */
export interface FollowersParts {
    readonly store: Store;
    /** Those that the queue's jobs are changed under. */
    readonly jobLocks: KeyedLocks;
    readonly alongside: (before: Job, after: Job) => readonly Write[];
    readonly onJob: (job: Job) => void;
}

const BATCH = 64;

export class Followers {
    readonly #parts: FollowersParts;

    constructor(parts: FollowersParts) {
        this.#parts = parts;
    }

    /** The files that have followers. */
    async *files(): AsyncGenerator<string> {
        let after: string | undefined;
        do {
            const range = { collection: FOLLOWING, limit: 1, ...(after !== undefined && { after }) };
            after = undefined;
            for await (const row of this.#parts.store.keys(range)) {
                const { group } = fromGroupedKey(row);
                yield group;
                after = `${group} \u{10FFFF}`;
            }
        } while (after !== undefined);
    }

    /** Lets each follower have the event that is its, where there is one for it. */
    async each(key: string, eventFor: (job: Job) => JobEvent | undefined): Promise<void> {
        for (let rows = await this.#rows(key); rows.length > 0; rows = await this.#rows(key, rows.at(-1)))
            await Promise.all(rows.map((row) => this.#change(row, eventFor)));
    }

    /** Has every follower follow no more, by the event that is its. */
    async endAll(key: string, eventFor: (job: Job) => JobEvent): Promise<void> {
        for (let rows = await this.#rows(key); rows.length > 0; rows = await this.#rows(key)) {
            await Promise.all(rows.map((row) => this.#change(row, eventFor)));
        }
    }

    async failAll(key: string, error: StoredError): Promise<void> {
        await this.endAll(key, () => ({ type: "fail", error: thrownAgain(error), at: Date.now() }));
    }

    /** Gives the followers that have not tried their own source to `use`, who is due first first, until that takes one. */
    async withUntried(key: string, use: (job: Job) => Promise<boolean>): Promise<boolean> {
        for await (const id of this.#ids(key)) {
            const taken = await this.#parts.jobLocks.hold([id], async () => {
                const job = await loadJob(this.#parts.store, id);
                return job?.follows === true && job.error === undefined && use(job);
            });
            if (taken) return true;
        }
        return false;
    }

    /** Why one of the followers failed when it tried itself. */
    async anyError(key: string): Promise<StoredError | undefined> {
        for await (const id of this.#ids(key)) {
            const job = await loadJob(this.#parts.store, id);
            if (job?.error !== undefined) return job.error;
        }
        return undefined;
    }

    /** The first of those that are new, where any is. */
    async firstLive(key: string): Promise<Job | undefined> {
        for await (const id of this.#ids(key)) {
            const job = await loadJob(this.#parts.store, id);
            if (job?.follows !== true) continue;
            if (!job.backfill) return job;
            // Behind history there is only such, but for that which is due before its caller's address ends.
            if (mayMove(job)) return undefined;
        }
        return undefined;
    }

    async #change(row: string, eventFor: (job: Job) => JobEvent | undefined): Promise<void> {
        const { store, jobLocks, alongside, onJob } = this.#parts;
        const { id } = fromGroupedKey(row);
        await jobLocks.hold([id], async () => {
            const before = await loadJob(this.#parts.store, id);
            const isFollowing = before?.follows === true;
            const event = isFollowing ? eventFor(before) : undefined;
            if (isFollowing && event === undefined) return;
            const after = event && before && transition(before, event);
            if (before === undefined || after === undefined) {
                // Its record was lost to damage, or another commit has just ended it.
                return store.commit([{ collection: FOLLOWING, key: row }]);
            }
            await store.commit([...jobWrites(before, after), ...alongside(before, after)]);
            onJob(after);
        });
    }

    /** All of them, who is due first first, whatever becomes of each meanwhile. */
    async *#ids(key: string): AsyncGenerator<string> {
        for (let rows = await this.#rows(key); rows.length > 0; rows = await this.#rows(key, rows.at(-1)))
            for (const row of rows) yield fromGroupedKey(row).id;
    }

    async #rows(key: string, after?: string): Promise<string[]> {
        const rows: string[] = [];
        const range = { collection: FOLLOWING, prefix: `${key} `, limit: BATCH, ...(after !== undefined && { after }) };
        for await (const row of this.#parts.store.keys(range)) rows.push(row);
        return rows;
    }
}
