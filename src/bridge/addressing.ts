import { MediaError, reasonOf } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import type { Store } from "../store/store.ts";
import { runsOut } from "../uploads/expiry.ts";
import type { Job } from "../uploads/job.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import { releaseWrites } from "../uploads/release.ts";
import type { SourceGate } from "../uploads/source-gate.ts";
import { steadyNow } from "../uploads/steady-clock.ts";
import { applies } from "../uploads/transition.ts";
import type { Closing } from "./closing.ts";
import type { Addresses } from "./dedupe/addresses.ts";
import type { HomeserverRequests } from "./homeserver-requests.ts";
import { loadJobs, type MessageRecord, outboxWrite } from "./records.ts";
import type { Registered } from "./registered.ts";
import type { Reservation, Reservations } from "./reservations.ts";
import type { Blocked } from "./user-limits.ts";

/**
 * How the files of a message whose turn in its room has come get the MXC URIs they still lack: one of their own, that of
 * a file they share, or the one that the upload itself gives: on a server without `/create`, or where the user gets none from
 * it. A room waits for no other file's bytes than its own message's.
 */
export interface AddressingParts {
    readonly store: Store;
    readonly registered: Registered;
    readonly reservations: Reservations;
    readonly addresses: Addresses;
    readonly queue: UploadQueue;
    readonly gate: SourceGate;
    readonly requests: HomeserverRequests;
    readonly closing: Closing;
    readonly logger: Logger;
    /** Told about each job that was changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

const REFUSED = "The homeserver refused an address for a file: it is uploaded before its message";

export class Addressing {
    readonly #parts: AddressingParts;

    constructor(parts: AddressingParts) {
        this.#parts = parts;
    }

    /** Gets an MXC for each of the message's files that has none, and journals each as soon as it is there. */
    async reserve(message: MessageRecord, stop: AbortSignal): Promise<void> {
        for (const id of message.jobs) {
            while (true) {
                // As it is by now: while it waited it may have ended, or have been released with an address that it had.
                const [job] = await loadJobs(this.#parts.store, [id]);
                if (job === undefined || !needsAddress(job)) break;
                const { uploader } = job;
                if (await this.#share(job)) break;
                // The others with the same file wait for this one's address, but not for the uploads of what it waits for.
                const obtained = await this.#alone(job, stop, () => this.#obtainAddress(job, stop));
                if (obtained === "assigned") break;
                if (obtained === "shared") continue;
                if (obtained === "unsupported") {
                    // One that has an address, which has run out: its turn will see to that.
                    if (job.contentUri === undefined) await this.#upload(id, stop);
                    break;
                }
                // The places this very message holds would never be freed if its uploads waited for its event.
                await this.#releaseEarly(message);
                const waitMs = patienceWith(job, obtained, this.#parts.gate.pausedFor(job));
                // One try, and another look for an address: a source that lets wait for hours is not waited for here.
                if (waitMs === undefined) await this.#upload(id, stop, isPostponed);
                else await this.#parts.reservations.waitForPlace(uploader, waitMs, stop);
            }
        }
    }

    /** Gives a job an address of its own, unless its file has got one meanwhile. */
    async #obtainAddress(job: Job, stop: AbortSignal) {
        const { id } = job;
        if (await this.#parts.addresses.hasShared(job)) return "shared" as const;
        const obtained = await this.#obtain(job, stop);
        if (obtained === "unsupported" || !("reservation" in obtained)) return obtained;
        await this.#assign(id, obtained.reservation);
        return "assigned" as const;
    }

    async #assign(jobId: string, reservation: Reservation): Promise<void> {
        const { store, reservations, addresses, queue, onJob } = this.#parts;
        await queue.locks.hold([jobId], async () => {
            const [before] = await reservations.guarded(reservation, loadJobs(store, [jobId]));
            const after = before && (await addresses.assign(before, reservation));
            // Cancelled meanwhile: the address is for somebody else.
            if (after === undefined) return reservations.keep(reservation);
            onJob(after);
        });
    }

    /** Gives a job the address of a file that it has in common with others; false where there is none yet. */
    async #share({ id: jobId, dedupe }: Job): Promise<boolean> {
        const { store, addresses, queue, onJob } = this.#parts;
        if (dedupe === undefined) return false;
        return queue.locks.hold([jobId], async () => {
            const [before] = await loadJobs(store, [jobId]);
            const after = before && (await addresses.share(before));
            if (after !== undefined) onJob(after);
            return after !== undefined;
        });
    }

    /** Uploads a file in one step, which gives its address; also no further than it is `enough`. */
    async #upload(id: string, stop: AbortSignal, enough?: (job: Job) => boolean): Promise<void> {
        const { store, queue, requests, registered, closing } = this.#parts;
        const [job] = await loadJobs(store, [id]);
        if (job === undefined) return;
        const { uploader } = job;
        const register = async () => {
            stop.throwIfAborted();
            await requests.one(() => registered.ensure(uploader));
        };
        await requests.untilAnswered({ sender: uploader }, register, stop);
        await this.#alone(job, stop, () => queue.runNow(job, closing.signal, { stop, ...(enough && { enough }) }));
        stop.throwIfAborted();
    }

    /** Runs `task` while no other job with the same file is in here. Who is withdrawn waits for none of their uploads. */
    async #alone<T>(job: Job, stop: AbortSignal, task: () => Promise<T>): Promise<T> {
        const waiting = new LinkedAbort([stop]);
        const turn = this.#parts.addresses.alone(job, async () => {
            waiting.release();
            stop.throwIfAborted();
            return task();
        });
        return Promise.race([turn, waiting.aborted()]);
    }

    async #releaseEarly(message: MessageRecord): Promise<void> {
        const { store, queue } = this.#parts;
        await queue.locks.hold(message.jobs, async () => {
            const jobs = await loadJobs(this.#parts.store, message.jobs);
            const held = jobs.filter(({ state }) => state === "reserved");
            const waiting = jobs.filter(({ state }) => state === "unreserved").length;
            const released = held.flatMap((job) => releaseWrites(job).writes);
            await store.commit([...released, outboxWrite(message, waiting)]);
        });
        queue.poke();
    }

    async #obtain({ id: jobId, uploader }: Job, stop: AbortSignal) {
        const { reservations, requests, closing, logger } = this.#parts;
        const obtain = () => {
            stop.throwIfAborted();
            // Not aborted at once on close: its own file may still have it.
            return reservations.obtain(uploader, closing.cutOff);
        };
        try {
            return await requests.untilAnswered({ sender: uploader }, () => requests.one(obtain), stop);
        } catch (error) {
            if (!(error instanceof MediaError) || error.retryable || error.code === "CANCELLED") throw error;
            // The upload itself may be allowed; or it is refused as well, and its message says so with its caption.
            if (error.code !== "NOT_SUPPORTED") logger.warn(REFUSED, { jobId, userId: uploader, ...reasonOf(error) });
            return "unsupported" as const;
        }
    }
}

/**
 * How long a file is to wait for a place at its user's limit; undefined where it is to be uploaded without an address, now. One
 * whose first address has run out has to get another.
 * @param sourcePausedUntil Before this time its source is not asked: whoever waited for that would look for no address.
 */
function patienceWith(
    { contentUri, notBefore = 0 }: Job,
    { blockedForMs, isLasting }: Blocked,
    sourcePausedUntil: number,
): number | undefined {
    if (!isLasting || contentUri !== undefined) return blockedForMs;
    const waitMs = Math.max(notBefore, sourcePausedUntil) - steadyNow();
    return waitMs > 0 ? Math.min(blockedForMs, waitMs) : undefined;
}

function isPostponed({ notBefore = 0 }: Job): boolean {
    return notBefore > steadyNow();
}

/** Before its event is sent a file may have any address: one that has run out is replaced without an edit. */
function needsAddress(job: Job): boolean {
    if (!applies(job, "reserve")) return false;
    return job.contentUri === undefined || (job.state === "reserved" && runsOut(job, Date.now()));
}
