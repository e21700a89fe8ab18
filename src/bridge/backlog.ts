import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { FOLLOWING, HELD, SCHEDULE, WAITING } from "../uploads/job-records.ts";
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

    /** Counts what an earlier run left. */
    async takeStock(store: Store): Promise<void> {
        for await (const [, entry] of store.range({ collection: OUTBOX })) {
            const { files } = entry;
            this.add(1, typeof files === "number" ? files : 0);
        }
        for (const collection of [SCHEDULE, WAITING, HELD, FOLLOWING]) {
            for await (const _ of store.keys({ collection })) this.add(0, 1);
        }
    }
}
