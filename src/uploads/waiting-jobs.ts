import type { Store } from "../store/store.ts";
import type { Job } from "./job.ts";
import { fromOrderedKey, isPlaceOf, loadJob, WAITING } from "./job-records.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import { LONGEST_WAIT_MS } from "./retry.ts";
import { steadyNow } from "./steady-clock.ts";

/** Jobs that are moved in one look. */
const BATCH = 64;

/** Jobs that wait for a time, in a list of their own, sorted by it; and when the first of them is to be looked at. */
export class WaitingJobs {
    readonly #store: Store;
    readonly #locks: KeyedLocks;
    readonly #promote: (job: Job) => Promise<Job | undefined>;
    /** No job waits for an earlier time; in a future only when all of them were looked at. */
    #until = 0;

    /**
     * @param locks Those that jobs are changed under.
     * @param promote Journals that a job's wait is over. Undefined where that does not apply.
     */
    constructor(store: Store, locks: KeyedLocks, promote: (job: Job) => Promise<Job | undefined>) {
        this.#store = store;
        this.#locks = locks;
        this.#promote = promote;
    }

    /** Milliseconds since the epoch; infinite where none waits. */
    get until(): number {
        return this.#until;
    }

    /** To be told of a job that has come to wait, after it is journaled. */
    waits(until: number): void {
        this.#until = Math.min(this.#until, until);
    }

    /** The next look is at the list itself. */
    lookAgain(): void {
        this.#until = 0;
    }

    /** Moves jobs whose wait is over into the schedule. Resolves with whether there were any. */
    async move(): Promise<boolean> {
        if (this.#until > steadyNow()) return false;
        // Before the reading: one that comes to wait meanwhile sets it back.
        this.#until = Number.POSITIVE_INFINITY;
        let moved = false;
        for await (const key of this.#store.keys({ collection: WAITING, limit: BATCH })) {
            const { time, id } = fromOrderedKey(key);
            const left = time - steadyNow();
            // Nobody waits longer: the clock was wrong when this was journaled.
            if (left > 0 && left <= LONGEST_WAIT_MS) {
                this.waits(time);
                break;
            }
            await this.#locks.hold([id], async () => {
                const job = await loadJob(this.#store, id);
                const isThere = job !== undefined && isPlaceOf(job, WAITING, key);
                const after = isThere ? await this.#promote(job) : undefined;
                if (after === undefined) await this.#store.commit([{ collection: WAITING, key }]);
            });
            moved = true;
            // There may be more than were read.
            this.#until = 0;
        }
        return moved;
    }
}
