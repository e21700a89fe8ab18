import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";

/**
 * What keeps the journal from growing is done once an hour, and a first time soon after a start: a bridge that is
 * restarted more often than that would never come to it. It is in nobody's way: not in that of a start, and between its
 * batches others have their turn.
 */
export interface TidyingParts {
    readonly logger: Logger;
    readonly work: () => Promise<void>;
    /** How long what is tidied away is kept. Where that is shorter than an hour, it is looked at as often. */
    readonly keepMs: number;
    /** What the log says of work that failed. */
    readonly failure: string;
}

const EVERY_MS = 60 * 60_000;
const FIRST_MS = 2 * 60_000;
const PAUSE_MS = 20;

export class Tidying {
    readonly #parts: TidyingParts;
    readonly #closing = new AbortController();
    #first: NodeJS.Timeout | undefined;
    #timer: NodeJS.Timeout | undefined;
    #working: Promise<void> | undefined;

    constructor(parts: TidyingParts) {
        this.#parts = parts;
    }

    start(): void {
        const everyMs = Math.min(EVERY_MS, this.#parts.keepMs);
        this.#timer = setInterval(() => this.#poke(), everyMs);
        this.#timer.unref();
        this.#first = setTimeout(() => this.#poke(), Math.min(FIRST_MS, everyMs));
        this.#first.unref();
    }

    /** To be awaited between two batches. Resolves with false when there is to be no other, because all is closed. */
    async mayGoOn(): Promise<boolean> {
        await sleep(PAUSE_MS, undefined, { signal: this.#closing.signal, ref: false }).catch(() => {});
        return !this.#closing.signal.aborted;
    }

    async close(): Promise<void> {
        this.#closing.abort();
        clearTimeout(this.#first);
        clearInterval(this.#timer);
        await this.#working;
    }

    #poke(): void {
        this.#working ??= this.#parts
            .work()
            .catch((error: unknown) => this.#parts.logger.error(this.#parts.failure, { error: loggable(error) }))
            .finally(() => {
                this.#working = undefined;
            });
    }
}
