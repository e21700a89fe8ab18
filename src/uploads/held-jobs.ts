import type { Store } from "../store/store.ts";
import { isFinal, type Job } from "./job.ts";
import { transition } from "./transition.ts";
import { fromGroupedKey, HELD, jobWrites, loadJob } from "./job-records.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import { type SourceGate, sourceKeyOf } from "./source-gate.ts";

/**
 * Jobs whose source must not be asked now, in a list of their own for each source, sorted by due time.
 *
 * They are moved out of the schedule once, when their turn came and their source was closed, so a backlog of one source
 * is not read again and again at the head of the schedule. From here they are taken by due time, together with the
 * schedule, as soon as their source is open; a job that is taken keeps its place here until its try has ended. In
 * memory are only the names of the sources that have such jobs, as many as the gate remembers.
 */
export class HeldJobs {
    readonly #store: Store;
    readonly #gate: SourceGate;
    readonly #locks: KeyedLocks;
    /** Sources with held jobs; no job of it is due before that time. */
    readonly #earliest = new Map<string, number>();
    #opensAt = Number.POSITIVE_INFINITY;
    /** How often it was told of a job. */
    #told = 0;

    constructor(store: Store, gate: SourceGate, locks: KeyedLocks) {
        this.#store = store;
        this.#gate = gate;
        this.#locks = locks;
    }

    /** Finds what an earlier run left: one look for each source. */
    async start(): Promise<void> {
        for (let after: string | undefined = ""; after !== undefined; ) {
            const range = { collection: HELD, limit: 1, after };
            after = undefined;
            for await (const key of this.#store.keys(range)) {
                const { group: source, time } = fromGroupedKey(key);
                this.#earliest.set(source, time);
                // Behind every key of this source: an exclamation mark follows the blank.
                after = `${source}!`;
            }
        }
    }

    get areNone(): boolean {
        return this.#earliest.size === 0;
    }

    /** Whether the job's source is closed now. */
    mustWait(job: Job): boolean {
        return this.#gate.closedFor(job) > 0;
    }

    /** To be told of a job that lies here, or may still do although it was taken: its try could not be begun. */
    holds({ heldFor, dueAt }: Job): void {
        if (heldFor === undefined || dueAt === undefined) return;
        this.#told++;
        this.#earliest.set(heldFor, Math.min(dueAt, this.#earliest.get(heldFor) ?? dueAt));
    }

    /** Moves jobs out of the schedule, in one step. What was cancelled meanwhile stays where it is. */
    async put(ids: readonly string[]): Promise<void> {
        await this.#locks.hold(ids, async () => {
            const jobs = await Promise.all(ids.map((id) => loadJob(this.#store, id)));
            const writes = jobs.flatMap((job) => {
                const source = job && sourceKeyOf(job);
                const held = source === undefined ? undefined : transition(job as Job, { type: "hold", source });
                if (job === undefined || held?.dueAt === undefined || source === undefined) return [];
                this.holds(held);
                return jobWrites(job, held);
            });
            await this.#store.commit(writes);
        });
    }

    /** The first by due time, and before `before`, of those whose source is open and that are not under way. */
    async next(before: number, isRunning: (id: string) => boolean, running: number): Promise<Job | undefined> {
        while (true) {
            const source = this.#firstOpen(before);
            if (source === undefined) return undefined;
            const told = this.#told;
            const head = await this.#head(source, isRunning, running);
            // One that was told of since may be due before what was read.
            if (told !== this.#told) continue;
            if (head === undefined) {
                this.#earliest.delete(source);
                continue;
            }
            this.#earliest.set(source, head.time);
            if (head.time >= before) continue;
            const job = await loadJob(this.#store, head.id);
            if (job !== undefined && !isFinal(job.state) && job.heldFor === source && job.notBefore === undefined)
                return job;
            // Its record was lost to damage, or its place was changed between the two looks.
            await this.#store.commit([{ collection: HELD, key: head.key }]);
        }
    }

    /**
     * When the first source that has held jobs opens by itself, of those that the last look found closed. To ask again now would
     * pass over one that has opened since: nobody looked for its jobs, and nobody would come back.
     */
    opensAt(): number {
        return this.#opensAt;
    }

    #firstOpen(before: number): string | undefined {
        let first: string | undefined;
        let earliest = before;
        this.#opensAt = Number.POSITIVE_INFINITY;
        for (const [source, time] of this.#earliest) {
            const until = this.#gate.closedUntil(source);
            if (until > 0) this.#opensAt = Math.min(this.#opensAt, until);
            else if (time < earliest) {
                first = source;
                earliest = time;
            }
        }
        return first;
    }

    async #head(source: string, isRunning: (id: string) => boolean, running: number) {
        const range = { collection: HELD, prefix: `${source} `, limit: running + 1 };
        for await (const key of this.#store.keys(range)) {
            const { time, id } = fromGroupedKey(key);
            if (!isRunning(id)) return { key, time, id };
        }
        return undefined;
    }
}
