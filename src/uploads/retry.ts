import type { ErrorCode, MediaError } from "../errors.ts";
import { mayBeAProxys } from "../matrix/answer.ts";

/**
 * What to do after a failed try. Exponential with full jitter, so that a crowd of failed jobs does not come back as a
 * crowd; a wait that the other side asked for is never undercut.
 */
export type Verdict = { readonly action: "retry"; readonly delayMs: number } | { readonly action: "give-up" };

const BASE_MS = 500;
const CAP_MS = 5 * 60_000;
/** What passes by waiting passes at any time, and a wait for it is never given up: a place is not to stay empty for long. */
const PATIENCE_CAP_MS = 60_000;
/** No told wait is believed beyond this. */
const LONGEST_TOLD_WAIT_MS = 60 * 60_000;
/** What a refusal without a Matrix code asks for is a guess at who asks: no room waits longer for it. */
const LONGEST_REFUSED_WAIT_MS = 32_000;
/** The longest back-off of one's own where a limit has told how long to wait. */
const LONGEST_BESIDE_TOLD_MS = 1000;
/** More than any wait that is decided here. */
export const LONGEST_WAIT_MS = LONGEST_TOLD_WAIT_MS + 60_000;

/** Errors of the homeserver as a whole: every upload would meet them now. */
const HOMESERVER_TROUBLE = new Set<ErrorCode>([
    "HOMESERVER_UNREACHABLE",
    "HOMESERVER_FAILING",
    "HOMESERVER_TOKEN_REFUSED",
    "HOMESERVER_ANSWER_INVALID",
]);

/** Errors that pass by waiting, and say nothing about the file either. */
const PATIENCE = new Set<ErrorCode>([
    "HOMESERVER_RATE_LIMITED",
    "UPLOAD_PENDING",
    "STORE_READ_FAILED",
    "STORE_WRITE_FAILED",
    "SPOOL_FULL",
]);

/** Whether a failure passes by waiting, however often it takes. */
export function isPatience(code: ErrorCode): boolean {
    return PATIENCE.has(code);
}

/** Whether a failure is only waited out, for longer each time. */
export function isWaitedOut(code: ErrorCode, ownFault: boolean): boolean {
    return isPatience(code) || (code === "SOURCE_RATE_LIMITED" && !ownFault);
}

/** Whether it was the disk under the journal, which says nothing of anything else. */
export function isJournalTrouble(code: ErrorCode): boolean {
    return code === "STORE_READ_FAILED" || code === "STORE_WRITE_FAILED";
}

/** Whether no upload should begin until this has passed. */
export function isHomeserverTrouble(code: ErrorCode): boolean {
    return HOMESERVER_TROUBLE.has(code);
}

export interface Tries {
    /** Failed tries before this one that were the job's own fault. */
    readonly attempts: number;
    /** Failures just before this one that only had to be waited out. @default 0 */
    readonly waits?: number | undefined;
    /** Tries that a job has. */
    readonly maxAttempts: number;
    /** When this job last failed; undefined at its first failure. */
    readonly failedAt: number | undefined;
    /** When the homeserver last took an upload; undefined when it has not yet. */
    readonly lastSuccessAt: number | undefined;
    /** Other files were coming from its source. @default false */
    readonly besideOthers?: boolean;
}

/**
 * Whether a failure uses up one of the job's tries. Trouble of the homeserver does not, or an outage would fail the
 * whole backlog; but when other uploads got through since this job's last failure, the trouble is this file's. Nor does a source's
 * 429 while it gives others: it may give only so many at once, for as long as those take.
 */
export function isOwnFault(code: ErrorCode, { failedAt, lastSuccessAt, besideOthers }: Tries): boolean {
    if (isPatience(code)) return false;
    if (code === "SOURCE_RATE_LIMITED") return besideOthers !== true;
    if (!HOMESERVER_TROUBLE.has(code)) return true;
    return failedAt !== undefined && lastSuccessAt !== undefined && lastSuccessAt > failedAt;
}

export function afterFailure(error: MediaError, tries: Tries, random: () => number = Math.random): Verdict {
    if (!error.retryable && !mayBeAProxys(error)) return { action: "give-up" };
    const isOwn = isOwnFault(error.code, tries);
    if (isOwn && tries.attempts + 1 >= tries.maxAttempts) return { action: "give-up" };
    const delayMs = isWaitedOut(error.code, isOwn)
        ? patientDelay(error, tries.waits ?? 0, random)
        : retryDelay(error, tries.attempts, random);
    return { action: "retry", delayMs };
}

/**
 * How long to wait before the next try, in milliseconds.
 * @param attempts Failed tries before this one.
 */
export function retryDelay(error: MediaError, attempts: number, random: () => number = Math.random): number {
    const backOff = exponential(attempts, CAP_MS, random);
    const told = Math.min(
        error.retryAfterMs ?? 0,
        mayBeAProxys(error) ? LONGEST_REFUSED_WAIT_MS : LONGEST_TOLD_WAIT_MS,
    );
    if (told === 0) return backOff;
    // A limit that says when it lets the next one in is believed nearly alone. Of what is down the word is a guess, often the
    // same one however long it lasts: believed alone, it would have a file's tries used up within seconds.
    const least = isPatience(error.code) ? Math.min(backOff, LONGEST_BESIDE_TOLD_MS) : backOff;
    // A little more than told, or the other side's clock may still say no.
    return Math.max(told + 50 * random(), least);
}

/** A told wait that was not enough again and again is not believed alone: each try opens its source. */
function patientDelay(error: MediaError, waits: number, random: () => number): number {
    return Math.max(retryDelay(error, 0, random), exponential(waits, PATIENCE_CAP_MS, random));
}

function exponential(failures: number, capMs: number, random: () => number): number {
    const ceiling = Math.min(capMs, BASE_MS * 2 ** Math.min(failures, 16));
    return ceiling / 2 + (ceiling / 2) * random();
}
