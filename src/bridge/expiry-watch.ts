import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Store } from "../store/store.ts";
import { AHEAD_MS, renewAt } from "../uploads/expiry.ts";
import { isHomeserverTrouble, isJournalTrouble } from "../uploads/retry.ts";
import { type Job, mayMove } from "../uploads/job.ts";
import { EXPIRING, fromOrderedKey, orderedKey } from "../uploads/job-records.ts";
import { Closing } from "./closing.ts";

/**
 * Sees to files that still wait shortly before their address ends, so that nobody in the room meets an address that
 * leads nowhere. One timer on the first of them; one after the other, a bounded number a wake-up. Each is looked at
 * once: one that could not be helped now is helped when its turn comes.
 */
export interface ExpiryWatchParts {
    readonly store: Store;
    readonly logger: Logger;
    readonly renewAhead: (jobId: string, signal: AbortSignal) => Promise<void>;
}

const BATCH = 32;
const PAUSE_MS = 100;
const TROUBLE_PAUSE_MS = 30_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class ExpiryWatch {
    readonly #parts: ExpiryWatchParts;
    readonly #closing = new Closing();
    #timer: NodeJS.Timeout | undefined;
    #wakesAt = Number.POSITIVE_INFINITY;
    #working: Promise<void> | undefined;
    /** Up to here each was looked at. */
    #seen = "";
    /** The earliest that was told of during a round. */
    #missed = Number.POSITIVE_INFINITY;
    #open = false;

    constructor(parts: ExpiryWatchParts) {
        this.#parts = parts;
    }

    start(): void {
        this.#open = true;
        // What has ended before is left to its turn.
        this.#seen = orderedKey(Date.now() - AHEAD_MS, "");
        this.#wakeAt(Date.now());
    }

    /** To be called when a job has changed. */
    look(job: Job): void {
        if (job.state !== "ready" || !mayMove(job)) return;
        const at = renewAt(job);
        if (at === undefined) return;
        if (this.#working === undefined) this.#wakeAt(at);
        else this.#missed = Math.min(this.#missed, at);
    }

    async close(): Promise<void> {
        this.#open = false;
        clearTimeout(this.#timer);
        await this.#closing.begin(async () => this.#working);
    }

    #wakeAt(time: number): void {
        if (!this.#open || time >= this.#wakesAt) return;
        clearTimeout(this.#timer);
        this.#wakesAt = time;
        const delay = Math.min(Math.max(0, time - Date.now()), LONGEST_TIMER_MS);
        this.#timer = setTimeout(() => this.#wake(), delay);
    }

    #wake(): void {
        this.#working ??= this.#work();
    }

    async #work(): Promise<void> {
        const next = await this.#round().catch((thrown: unknown) => {
            const error = asMediaError(thrown);
            this.#parts.logger.debug("An address could not be replaced ahead of its end", { code: error.code });
            const paused = isHomeserverTrouble(error.code) || isJournalTrouble(error.code);
            return Date.now() + (paused ? TROUBLE_PAUSE_MS : PAUSE_MS);
        });
        this.#working = undefined;
        this.#wakesAt = Number.POSITIVE_INFINITY;
        this.#wakeAt(Math.min(next, this.#missed));
        this.#missed = Number.POSITIVE_INFINITY;
    }

    /** Resolves with when to look again. */
    async #round(): Promise<number> {
        const range = { collection: EXPIRING, after: this.#seen, limit: BATCH };
        for await (const key of this.#parts.store.keys(range)) {
            if (this.#closing.signal.aborted) return Number.POSITIVE_INFINITY;
            const { time, id } = fromOrderedKey(key);
            if (time > Date.now()) return time;
            this.#seen = key;
            await this.#parts.renewAhead(id, this.#closing.cutOff);
        }
        // The batch was full, or there is nothing: then the next job that is told of wakes it.
        return this.#first();
    }

    async #first(): Promise<number> {
        for await (const key of this.#parts.store.keys({ collection: EXPIRING, after: this.#seen, limit: 1 })) {
            return Math.max(fromOrderedKey(key).time, Date.now() + PAUSE_MS);
        }
        return Number.POSITIVE_INFINITY;
    }
}
