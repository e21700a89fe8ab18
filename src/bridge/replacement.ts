import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Store, Write } from "../store/store.ts";
import { runsOut } from "../uploads/expiry.ts";
import { type Job, mayMove } from "../uploads/job.ts";
import { transition } from "../uploads/transition.ts";
import { jobWrites, loadJob } from "../uploads/job-records.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import { loadMessage, messageWrite, reviseMark } from "./records.ts";
import { type Reservation, type Reservations, takenWrite } from "./reservations.ts";
import { successorOf } from "./successor.ts";

/**
 * Gives a file another address when the one that it has ends before the bytes are there.
 *
 * The old job ends as *replaced*, a new one has its place in the message and in the order of work, and the message is
 * marked so that its event is edited: all in one step. So after any downtime each file is healed when its turn comes,
 * one address at a time, and a crash in between repeats or loses none of it. A picture has no event to be edited: who
 * waits for it follows the job. A bare upload cannot be healed: its address is with the caller.
 */
export interface ReplacementParts {
    readonly store: Store;
    readonly reservations: Reservations;
    readonly logger: Logger;
    /** Held by whoever changes a message's record, from reading it until the change is journaled. */
    readonly messageLocks: KeyedLocks;
    /** Held by whoever changes a job that is not under way. */
    readonly jobLocks: KeyedLocks;
    /** Told after it is journaled. */
    readonly onReplaced: (old: Job, successor: Job) => void;
}

/** A homeserver that keeps forgetting the addresses it handed out is not asked for ever. */
const MAX_LOST = 3;

export class Replacement {
    readonly #parts: ReplacementParts;

    constructor(parts: ReplacementParts) {
        this.#parts = parts;
    }

    /**
     * Replaces a job that is under way where that is needed: its address has too little life left, or the homeserver
     * has `lost` it. Resolves with the old job as journaled, or undefined when it is to go on with what it has.
     */
    async renew(job: Job, lost: boolean, signal: AbortSignal): Promise<Job | undefined> {
        if (job.contentUri === undefined || !mayMove(job)) return undefined;
        // Before its event it is in no list that its successor could stand in.
        if (job.dueAt === undefined) return undefined;
        if (lost) {
            if ((job.addressesLost ?? 0) >= MAX_LOST) return undefined;
        } else if (job.state === "completing" || !runsOut(job, Date.now())) {
            // All bytes are there already: the homeserver may still take them.
            return undefined;
        }
        const reservation = await this.#obtain(job.uploader, signal, lost);
        if (reservation === undefined) return undefined;
        return this.#parts.messageLocks.hold(messageOf(job), () => this.#replace(job, reservation, lost, signal));
    }

    /** The same for a job that still waits for its turn. Where that cannot be now, its turn will see to it. */
    async renewAhead(id: string, signal: AbortSignal): Promise<void> {
        const { reservations } = this.#parts;
        const job = await loadJob(this.#parts.store, id);
        // One whose address has ended already waits for its turn: a backlog after a downtime is no storm.
        if (job?.state !== "ready" || (job.expiresAt ?? 0) <= Date.now()) return;
        if (reservations.blockedFor(job.uploader) > 0) return;
        const reservation = await this.#obtain(job.uploader, signal);
        if (reservation === undefined) return;
        const { messageLocks, jobLocks } = this.#parts;
        // In the order in which everybody takes them who changes a message and its jobs.
        await messageLocks.hold(messageOf(job), () =>
            jobLocks.hold([id], async () => {
                const now = await reservations.guarded(reservation, loadJob(this.#parts.store, id));
                if (now?.state === "ready" && now.contentUri === job.contentUri)
                    await this.#replace(now, reservation, false, signal);
                else await this.#putBack(reservation);
            }),
        );
    }

    /**
     * Undefined where the homeserver has no `/create`. Rejects with HOMESERVER_RATE_LIMITED at the user's limit.
     * @param isNeeded Without another address the file cannot come. The one that it had was the homeserver's, so a 404 that does
     * not say why is rather a proxy's: rejects as an answer that makes no sense, and is asked for again.
     */
    async #obtain(uploader: string, signal: AbortSignal, isNeeded = false): Promise<Reservation | undefined> {
        const { reservations } = this.#parts;
        const warm = reservations.takeWarm(uploader);
        if (warm !== undefined) return warm;
        const known = reservations.blockedFor(uploader);
        if (known > 0) throw new MediaError("HOMESERVER_RATE_LIMITED", { retryAfterMs: known });
        try {
            const obtained = await reservations.obtain(uploader, signal, isNeeded);
            if ("reservation" in obtained) return obtained.reservation;
            throw new MediaError("HOMESERVER_RATE_LIMITED", { retryAfterMs: reservations.blockedFor(uploader) });
        } catch (error) {
            if (!(error instanceof MediaError) || error.code !== "NOT_SUPPORTED") throw error;
            if (!isNeeded || reservations.isWithout) return undefined;
            throw new MediaError("HOMESERVER_ANSWER_INVALID", { cause: error });
        }
    }

    /** To be called while its message's lock is held, where it has one. */
    async #replace(job: Job, reservation: Reservation, lost: boolean, signal: AbortSignal): Promise<Job | undefined> {
        const { store, reservations, logger, onReplaced } = this.#parts;
        const now = Date.now();
        const successor = successorOf(job, reservation, lost, now);
        const after = transition(job, { type: "replace", by: successor.id, at: now });
        const ofMessage = await reservations.guarded(reservation, messageWrites(store, job, successor));
        if (signal.aborted || after === undefined || ofMessage === undefined) {
            await this.#putBack(reservation);
            signal.throwIfAborted();
            return undefined;
        }
        try {
            await store.commit([
                takenWrite(reservation),
                ...jobWrites(job, after),
                ...jobWrites(undefined, successor),
                ...ofMessage,
            ]);
        } catch (error) {
            reservations.giveBack(reservation);
            throw error;
        }
        logger.info("The address of a file that is still to come has ended and was replaced", {
            jobId: job.id,
            replacedBy: successor.id,
            lost,
        });
        onReplaced(after, successor);
        return after;
    }

    /** Nobody has seen it: another file may have it. */
    async #putBack(reservation: Reservation): Promise<void> {
        await this.#parts.reservations.keep(reservation).catch((error: unknown) => {
            throw asMediaError(error, "STORE_WRITE_FAILED");
        });
    }
}

function messageOf({ messageId }: Job): string[] {
    return messageId === undefined ? [] : [messageId];
}

/** What gives a job's place in its message to its successor; undefined where it has none any more. */
async function messageWrites(store: Store, { id, messageId }: Job, successor: Job): Promise<Write[] | undefined> {
    if (messageId === undefined) return [];
    const message = await loadMessage(store, messageId);
    const place = message?.jobs.indexOf(id) ?? -1;
    if (message === undefined || place < 0) return undefined;
    return [messageWrite({ ...message, jobs: message.jobs.with(place, successor.id) }), reviseMark(messageId)];
}
