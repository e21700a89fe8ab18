import type { Store } from "../store/store.ts";
import { type Callers, historyDueAt } from "./callers.ts";
import type { HeldJobs } from "./held-jobs.ts";
import { isFinal, type Job } from "./job.ts";
import { fromOrderedKey, isPlaceOf, loadJob, SCHEDULE, tidyRow } from "./job-records.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import { Look, type Refusal } from "./look.ts";
import { both, EVERYBODY, isSmall, type Left, NOBODY, type Places } from "./places.ts";
import type { SourceGate } from "./source-gate.ts";

/**
 * The queue's lists in the journal, read together by due time while there are places: the schedule, the held jobs whose source
 * is open again, and the history that somebody waits for. What is found is offered to the queue, which begins it in that
 * step or says why not.
 */
export interface ListsParts {
    readonly store: Store;
    readonly locks: KeyedLocks;
    readonly places: Places;
    readonly gate: SourceGate;
    readonly held: HeldJobs;
    readonly callers: Callers;
    /** Jobs under way, by id: they keep their rows in the lists. */
    readonly underWay: Pick<ReadonlyMap<string, unknown>, "has" | "size">;
    /** Whether the queue takes work. */
    readonly isOpen: () => boolean;
    /** Begins a job, or says why it cannot begin now. */
    readonly offer: (job: Job) => Refusal | undefined;
}

/** What a look at the lists came to. */
export interface Looked {
    /** Whom it has left there without a place. */
    readonly left: Left;
    /** Whether the next look may find something at once. */
    readonly again: boolean;
}

/** Jobs that are moved out of the schedule in one step when their source is closed. */
const HOLD_BATCH = 256;
/** Jobs of the schedule among which a small one is looked for when only small files' places are free. */
const SMALL_AHEAD = 64;

export class Lists {
    readonly #parts: ListsParts;
    #scanAhead = 0;

    constructor(parts: ListsParts) {
        this.#parts = parts;
    }

    /** Begins jobs while there are places. Rejects where the journal cannot be read or written. */
    async look(): Promise<Looked> {
        const { store, locks, places, gate, held, underWay, isOpen } = this.#parts;
        if (places.isFull) return { left: EVERYBODY, again: false };
        const limit = places.total + underWay.size + Math.max(this.#scanAhead, SMALL_AHEAD);
        const look = new Look(places, gate);
        const blocked: string[] = [];
        let rows = 0;
        let isFull = false;
        let again = false;
        let left = NOBODY;
        for await (const key of store.keys({ collection: SCHEDULE, limit })) {
            rows++;
            const { time, id } = fromOrderedKey(key);
            left = await this.#takeOthers(time, left, look);
            isFull = places.isFull || blocked.length >= HOLD_BATCH;
            if (isFull) break;
            if (underWay.has(id)) continue;
            const job = await loadJob(store, id);
            if (job === undefined || isFinal(job.state)) {
                // The job's record was lost to damage: its place in the schedule means nothing any more.
                await store.commit([{ collection: SCHEDULE, key }]);
                again = true;
                continue;
            }
            if (!isPlaceOf(job, SCHEDULE, key)) {
                await locks.hold([id], () => tidyRow(store, id, SCHEDULE, key));
                continue;
            }
            // Behind history that is due after all that is live there is only such.
            isFull = look.isOver || (job.backfill && time > historyDueAt() && places.isFullForHistory);
            if (isFull || !isOpen()) break;
            const refusal = this.#offer(job, look);
            if (refusal === "source") blocked.push(id);
            else if (refusal === "places") left = { ...left, large: true };
        }
        // Behind the rows that were not read there may be anybody, but large ones left are looked past for small ones' sake.
        const isUnread = isFull || (rows >= limit && blocked.length > 0);
        left = await this.#takeOthers(Number.POSITIVE_INFINITY, isUnread ? EVERYBODY : left, look);
        again ||= look.isOver || blocked.length > 0;
        this.#scanAhead = blocked.length > 0 ? HOLD_BATCH : 0;
        if (blocked.length > 0) await held.put(blocked);
        return { left: isFull || rows >= limit ? EVERYBODY : left, again };
    }

    /**
     * Begins what is due before a time and does not lie in the schedule: held jobs, and history that is waited for.
     * @param left Whom the look has left so far.
     */
    async #takeOthers(before: number, left: Left, look: Look): Promise<Left> {
        const { callers } = this.#parts;
        let all = left;
        const historyAt = historyDueAt();
        if (historyAt < before && !callers.areNone) {
            all = both(all, await this.#takeHeld(historyAt, look));
            callers.serveHistory(all);
        }
        return both(all, await this.#takeHeld(before, look));
    }

    /** Begins held jobs that are due before a time and whose source is open. Resolves with whom that may have left. */
    async #takeHeld(before: number, look: Look): Promise<Left> {
        const { held, places, underWay, isOpen } = this.#parts;
        while (isOpen() && !places.isFull) {
            const job = await held.next(before, (id) => underWay.has(id), underWay.size);
            if (job === undefined) return NOBODY;
            if (look.isOver || !isOpen()) break;
            if (this.#offer(job, look) === "places") return { small: isSmall(job), large: true };
        }
        return held.areNone ? NOBODY : EVERYBODY;
    }

    #offer(job: Job, look: Look): Refusal | undefined {
        const refusal = this.#parts.offer(job);
        if (refusal !== undefined) look.passedOver(job, refusal);
        return refusal;
    }
}
