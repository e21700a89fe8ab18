import { type MediaError, reasonOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Job } from "./job.ts";
import { isUnseen, type JobEvent } from "./transition.ts";
import { afterFailure, isHomeserverTrouble, isOwnFault, retryDelay } from "./retry.ts";
import { type SourceGate, sourceKeyOf } from "./source-gate.ts";
import { steadyNow } from "./steady-clock.ts";
import { presignedFallback } from "./targets/presigned-fallback.ts";

/**
 * What a failed try means: for its job (retry.ts), for its presigned target, for its source, and, when the homeserver
 * itself is in trouble, for all jobs.
 */
export class Verdicts {
    readonly #logger: Logger;
    readonly #gate: SourceGate;
    readonly #maxAttempts: number;
    #pausedUntil = 0;
    /** Failures of the homeserver in a row, over all jobs. */
    #troubles = 0;
    #lastSuccessAt: number | undefined;

    constructor(parts: { readonly logger: Logger; readonly gate: SourceGate; readonly maxAttempts: number }) {
        this.#logger = parts.logger;
        this.#gate = parts.gate;
        this.#maxAttempts = parts.maxAttempts;
    }

    /** Before this time no job is to begin. */
    get pausedUntil(): number {
        return this.#pausedUntil;
    }

    /** The homeserver took a file. */
    succeeded(): void {
        this.#troubles = 0;
        this.#lastSuccessAt = steadyNow();
    }

    /** What becomes of a job after a try that came to nothing. Logs it. */
    after(job: Job, error: MediaError): JobEvent {
        if (error.code === "CLOSED") return { type: "park" };
        if (error.code === "CANCELLED") return { type: "cancel", at: Date.now(), isUnseen: isUnseen(job) };
        const tries = {
            attempts: job.attempts,
            waits: job.waits,
            maxAttempts: this.#maxAttempts,
            failedAt: job.failedAt,
            lastSuccessAt: this.#lastSuccessAt,
            besideOthers: this.#gate.hasOthers(job),
        };
        const verdict = afterFailure(error, tries);
        const closedUntil = this.#gate.failed(job, error);
        const at = steadyNow();
        const fallback = presignedFallback(job, error, verdict);
        if (fallback !== undefined) {
            const { presigned, delayMs } = fallback;
            const next = presigned === undefined ? "the homeserver takes the file instead" : "it will be tried again";
            this.#logger.warn(`A presigned upload failed: ${next}`, { ...whichOf(job), ...reasonOf(error) });
            return { type: "postpone", error, at, notBefore: at + delayMs, ownFault: false, presigned };
        }
        this.#logger.warn(
            verdict.action === "retry" ? "An upload failed and will be tried again" : "An upload failed",
            {
                ...whichOf(job),
                attempts: job.attempts + 1,
                ...reasonOf(error),
            },
        );
        if (verdict.action === "give-up") return { type: "fail", error, at: Date.now() };
        let notBefore = Math.max(at + verdict.delayMs, closedUntil);
        if (isHomeserverTrouble(error.code)) {
            // One outage, however many transfers it cuts off.
            if (this.#pausedUntil <= at) this.#pausedUntil = at + retryDelay(error, this.#troubles++);
            notBefore = Math.max(notBefore, this.#pausedUntil);
        }
        return { type: "postpone", error, at, notBefore, ownFault: isOwnFault(error.code, tries) };
    }
}

/** By what an operator finds a job's file: its source by name or origin, never by its link. */
function whichOf(job: Job) {
    const { id: jobId, messageId, roomId } = job;
    const source = sourceKeyOf(job);
    const message = { ...(messageId !== undefined && { messageId }), ...(roomId !== undefined && { roomId }) };
    return { jobId, ...message, ...(source !== undefined && { source }) };
}
