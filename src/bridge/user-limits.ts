import { setTimeout as sleep } from "node:timers/promises";
import { asMediaError, type MediaError, reasonOf } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import { steadyNow } from "../uploads/steady-clock.ts";

/** The user holds as many unused ones as it may: one of its uploads has to finish, or this time to pass. */
export interface Blocked {
    readonly blockedForMs: number;
    /** It has been so for `PATIENCE_MS`: what holds them may be files that failed, and they do so for a day. */
    readonly isLasting: boolean;
}

const LONGEST_BLOCK_MS = 60_000;
const SHORTEST_BLOCK_MS = 200;
/** How long a user gets no address before its files are uploaded without: whoever waits for them waits for their bytes then. */
const PATIENCE_MS = 5000;
const LASTING = "A user gets no address any more: its files are uploaded before their messages";

/** Users that the homeserver gives no address for now, for how long, and who waits for a place of theirs. */
export class UserLimits {
    readonly #logger: Logger;
    readonly #blockedUntil = new Map<string, number>();
    readonly #blockedSince = new Map<string, number>();
    /** Users that get none, however many of their uploads have finished: since when, and whether the log says so. */
    readonly #without = new Map<string, { readonly since: number; readonly last: number; readonly isTold: boolean }>();
    readonly #waiters = new Map<string, Set<() => void>>();

    constructor(logger: Logger) {
        this.#logger = logger;
    }

    /** Whether nobody should ask for this user now. */
    isBlocked(userId: string): boolean {
        if ((this.#blockedUntil.get(userId) ?? 0) > steadyNow()) return true;
        this.#blockedUntil.delete(userId);
        return false;
    }

    /** See `Reservations.blockedFor()`. */
    blockedFor(userId: string): number {
        const now = steadyNow();
        if ((this.#blockedUntil.get(userId) ?? 0) <= now) return 0;
        const since = now - (this.#blockedSince.get(userId) ?? now);
        return Math.min(Math.max(SHORTEST_BLOCK_MS, since), LONGEST_BLOCK_MS) * (1 + Math.random() / 2);
    }

    /** The user has got an address. */
    obtained(userId: string): void {
        this.#without.delete(userId);
    }

    /** The user was refused one. Returns for how long it is not asked for again, in milliseconds. */
    refused(userId: string, { retryAfterMs }: MediaError, leastMs = 1000): number {
        const now = steadyNow();
        const ms = Math.min(Math.max(retryAfterMs ?? leastMs, SHORTEST_BLOCK_MS), LONGEST_BLOCK_MS);
        this.#blockedUntil.set(userId, now + ms);
        if (!this.#blockedSince.has(userId)) this.#blockedSince.set(userId, now);
        return ms;
    }

    /** The same for somebody who waits: with how long the user has been without an address. */
    refusedToWaiting(userId: string, error: MediaError): Blocked {
        const now = steadyNow();
        for (const [other, { last }] of this.#without) if (!isRecent(last, now)) this.#without.delete(other);
        const { since, isTold } = this.#without.get(userId) ?? { since: now, isTold: false };
        const forMs = now - since;
        const isLasting = forMs >= PATIENCE_MS;
        if (isLasting && !isTold) this.#logger.warn(LASTING, { userId, ...reasonOf(error) });
        this.#without.set(userId, { since, last: now, isTold: isTold || isLasting });
        const ms = this.refused(userId, error, Math.max(1000, forMs));
        return { blockedForMs: isLasting ? ms : Math.min(ms, PATIENCE_MS - forMs), isLasting };
    }

    /** One of its uploads has finished: it may have another address, perhaps. */
    placeFreed(userId: string): void {
        this.#blockedUntil.delete(userId);
        this.#blockedSince.delete(userId);
        this.wake(userId);
    }

    /** Has those look again who wait for a place of this user's. */
    wake(userId: string): void {
        for (const wake of this.#waiters.get(userId) ?? []) wake();
    }

    /** See `Reservations.waitForPlace()`. */
    async waitForPlace(userId: string, ms: number, signal: AbortSignal): Promise<void> {
        const finished = new LinkedAbort([signal]);
        const waiters = this.#waiters.get(userId) ?? new Set();
        const wake = (): void => finished.abort();
        this.#waiters.set(userId, waiters.add(wake));
        try {
            await sleep(ms, undefined, { signal: finished.signal });
        } catch (error) {
            if (signal.aborted) throw asMediaError(signal.reason);
            if (!finished.signal.aborted) throw error;
        } finally {
            finished.release();
            waiters.delete(wake);
            if (waiters.size === 0) this.#waiters.delete(userId);
        }
    }
}

/** What was so long ago says nothing of what holds a user's addresses now. */
function isRecent(last: number, now: number): boolean {
    return now - last < 2 * LONGEST_BLOCK_MS;
}
