import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { isFinal } from "../uploads/job.ts";
import { FOLLOWING, HELD, JOBS, jobFrom, SCHEDULE, WAITING } from "../uploads/job-records.ts";
import { OUTBOX } from "./records.ts";

/** How much work is pending, and the bound on it. */
export class Backlog {
    readonly #max: number;
    #messages = 0;
    #jobs = 0;

    constructor(max: number) {
        this.#max = max;
    }

    /** Journaled and not yet accepted or refused. */
    get messages(): number {
        return this.#messages;
    }

    /** Journaled and not yet at their end. */
    get jobs(): number {
        return this.#jobs;
    }

    /** Counts new work in, before it is journaled. Throws BACKLOG_FULL. */
    enter(messages: number, jobs: number): void {
        const pending = this.#messages + this.#jobs;
        if (pending >= this.#max) throw new MediaError("BACKLOG_FULL", { detail: `${pending} pending` });
        this.add(messages, jobs);
    }

    /** Counts work in or out (negative) that the bound does not refuse. */
    add(messages: number, jobs: number): void {
        this.#messages += messages;
        this.#jobs += jobs;
    }

    /**
     * Counts what an earlier run left, by the lists alone.
     * @param isInDoubt Whether the journal was damaged: then each record is looked at, for a row may be of what has ended.
     */
    async takeStock(store: Store, isInDoubt: boolean): Promise<void> {
        let [messages, jobs] = [0, 0];
        for await (const [, { files }] of store.range({ collection: OUTBOX })) {
            messages++;
            if (!isInDoubt && typeof files === "number") jobs += files;
        }
        if (isInDoubt) {
            for await (const [, record] of store.range({ collection: JOBS }))
                if (!isFinal(jobFrom(record).state)) jobs++;
        } else {
            for (const collection of [SCHEDULE, WAITING, HELD, FOLLOWING])
                for await (const _ of store.keys({ collection })) jobs++;
        }
        // Not added: what the review of a damaged journal has ended was never counted in.
        [this.#messages, this.#jobs] = [messages, jobs];
    }
}
