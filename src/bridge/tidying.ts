import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import { steadyNow } from "../uploads/steady-clock.ts";

/**
 * What keeps the journal from growing is done once an hour, and a first time soon after a start: a bridge that is
 * restarted more often than that would never come to it. It is in nobody's way: not in that of a start, and between its
 * batches others have their turn.
 */
export interface TidyingParts {
    readonly logger: Logger;
    /** Forgets what ended, or was last used, before `cutoff`. */
    readonly work: (cutoff: number) => Promise<void>;
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
    /** How far the machine's clock was ahead of the steady one, when that was last seen: each further than those before. */
    #ahead: readonly { readonly seenAt: number; readonly ms: number }[] = [{ seenAt: steadyNow(), ms: 0 }];

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
        const cutoff = this.#cutoff();
        this.#working ??= this.#parts
            .work(cutoff)
            .catch((error: unknown) => this.#parts.logger.error(this.#parts.failure, { error: loggable(error) }))
            .finally(() => {
                this.#working = undefined;
            });
    }

    /**
     * What is noted by the machine's clock is old when it is so by that clock as it went at any time while it was to be kept.
     * So a turned clock makes nothing old; and where it was behind when the process started, or the steady one stood still
     * because the machine slept, it is believed after as long.
     */
    #cutoff(): number {
        const { keepMs } = this.#parts;
        const now = steadyNow();
        const ms = Date.now() - now;
        const kept = this.#ahead.filter((other) => other.ms < ms && other.seenAt > now - keepMs - EVERY_MS);
        this.#ahead = [...kept, { seenAt: now, ms }];
        return now + (kept[0]?.ms ?? ms) - keepMs;
    }
}
