import type { ErrorCode } from "../../errors.ts";
import { steadyNow } from "../steady-clock.ts";

/**
 * Which storage is worth a try. Each file has its tries at the storage before the homeserver takes it; when the storage
 * is down that costs every file of a backlog the same waiting. So after FAILURES in a row at one origin, whosever files
 * they were, the files go to the homeserver at once for a while, longer each time. Then one file tries the storage
 * again, the others still go past it, and the storage's first sensible answer opens it to all.
 *
 * In memory and about now: after a restart every storage is worth a try.
 */
export interface StorageTry {
    /** To be called with how it ended, once: a failure's code; "unused" where the file went past the storage after all. */
    ended(outcome: StorageOutcome): void;
}

type StorageOutcome = ErrorCode | "stored" | "unused";

const FAILURES = 5;
const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 10 * 60_000;
/** Storages whose trouble is remembered; one beyond them is tried as if it had none. */
const MAX_TROUBLED = 100;

interface Trouble {
    failures: number;
    pausedUntil: number;
    pauseMs: number;
    /** Whether the one file that may is trying it again. */
    isProbed: boolean;
}

export class StorageBreaker {
    readonly #now: () => number;
    readonly #troubled = new Map<string, Trouble>();

    constructor(now: () => number = steadyNow) {
        this.#now = now;
    }

    /** A try at this address; undefined where the homeserver is to take the file instead. */
    begin(url: string): StorageTry | undefined {
        const { origin } = new URL(url);
        const trouble = this.#troubled.get(origin);
        const isProbe = trouble !== undefined && trouble.failures >= FAILURES;
        if (isProbe) {
            if (trouble.isProbed || trouble.pausedUntil > this.#now()) return undefined;
            trouble.isProbed = true;
        }
        return { ended: (outcome) => this.#ended(origin, outcome, isProbe) };
    }

    #ended(origin: string, outcome: StorageOutcome, isProbe: boolean): void {
        const trouble = this.#troubled.get(origin);
        if (isProbe && trouble !== undefined) trouble.isProbed = false;
        if (outcome === "PRESIGNED_UNAVAILABLE") return this.#failed(origin, trouble);
        // A refusal is an answer too; what went wrong at the source or the homeserver says nothing of the storage.
        if (outcome === "stored" || outcome === "PRESIGNED_REFUSED") this.#troubled.delete(origin);
    }

    #failed(origin: string, known: Trouble | undefined): void {
        if (known === undefined && this.#troubled.size >= MAX_TROUBLED) return;
        const trouble = known ?? { failures: 0, pausedUntil: 0, pauseMs: FIRST_PAUSE_MS, isProbed: false };
        this.#troubled.set(origin, trouble);
        trouble.failures++;
        // Of tries that were under way together only one makes the pause.
        if (trouble.failures < FAILURES || trouble.pausedUntil > this.#now()) return;
        trouble.pausedUntil = this.#now() + trouble.pauseMs;
        trouble.pauseMs = Math.min(2 * trouble.pauseMs, LONGEST_PAUSE_MS);
    }
}
