import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { ActingUsers } from "../matrix/client.ts";
import { findSentEvent, sendEvent } from "../matrix/room-endpoints.ts";
import type { Store } from "../store/store.ts";
import { isFinal, type Job, jobWrites, transition } from "../uploads/job.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import { retryDelay } from "../uploads/retry.ts";
import type { Closing } from "./closing.ts";
import { contentFor } from "./event-content.ts";
import { enterRoom, WAYS_INTO_A_ROOM } from "./membership.ts";
import {
    finishedWrite,
    hashOf,
    loadJobs,
    type MessageRecord,
    messageWrite,
    OUTBOX,
    outboxKey,
    outboxWrite,
} from "./records.ts";
import { type Reservation, type Reservations, takenWrite } from "./reservations.ts";

/**
 * The way of one message from its room's line to its event: gets the addresses that its files still need, sends the event
 * until the homeserver accepts or finally refuses it, and journals the outcome together with its jobs becoming ready.
 *
 * Every try has the same transaction id. When an answer was lost, or a former process may have sent the event, it first
 * looks whether the room has it already: a homeserver forgets transaction ids when it restarts.
 */
export interface DeliveryParts {
    readonly store: Store;
    readonly users: ActingUsers;
    readonly reservations: Reservations;
    readonly queue: UploadQueue;
    readonly logger: Logger;
    readonly onFailure: "notice" | "keep";
    readonly closing: Closing;
    /** Told after the outcome is journaled; `error` only for a refusal. */
    readonly onOutcome: (message: MessageRecord, error: MediaError | undefined) => void;
    /** Told about each job that was changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

/** Requests at once, over all rooms. */
const MAX_SENDS = 32;

export class Delivery {
    readonly #parts: DeliveryParts;
    readonly #sends = new PQueue({ concurrency: MAX_SENDS });

    constructor(parts: DeliveryParts) {
        this.#parts = parts;
    }

    /** Brings one message to its end. Rejects, with the message still in line, for what passes. */
    async deliver(message: MessageRecord, mayBeSent: boolean): Promise<void> {
        try {
            await this.#reserve(message);
            const content = contentFor(message.content, await this.#jobs(message), this.#parts.onFailure);
            const eventId = await this.#sendUntilAnswered(message, content, mayBeSent);
            await this.#journalSent(message, eventId, hashOf(content));
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (this.#parts.closing.signal.aborted || error.retryable) throw error;
            await this.#journalRefused(message, error);
        }
    }

    /** Gets an MXC for each of the message's files that has none, and journals each as soon as it is there. */
    async #reserve(message: MessageRecord): Promise<void> {
        for (const { id, uploader, state, contentUri } of await this.#jobs(message)) {
            if (contentUri !== undefined || isFinal(state)) continue;
            for (let done = false; !done; ) {
                const obtained = await this.#obtain(uploader);
                if (obtained === "unsupported") {
                    const [job] = await loadJobs(this.#parts.store, [id]);
                    if (job !== undefined) await this.#parts.queue.runNow(job, this.#parts.closing.signal);
                    done = true;
                } else if ("reservation" in obtained) {
                    await this.#assign(id, obtained.reservation);
                    done = true;
                } else {
                    // The places this very message holds would never be freed if its uploads waited for its event.
                    await this.#releaseEarly(message);
                    await this.#parts.reservations.waitForPlace(
                        uploader,
                        obtained.blockedForMs,
                        this.#parts.closing.signal,
                    );
                }
            }
        }
    }

    async #assign(jobId: string, reservation: Reservation): Promise<void> {
        const { store, reservations, queue, onJob } = this.#parts;
        const { contentUri, expiresAt, presigned } = reservation;
        await queue.locks.hold([jobId], async () => {
            const [before] = await loadJobs(store, [jobId]);
            const after = before && transition(before, { type: "reserve", contentUri, expiresAt, presigned });
            if (after === undefined) {
                // Cancelled meanwhile: the address is for somebody else.
                await store.commit([reservations.keptWrite(reservation)]);
                return reservations.giveBack(reservation);
            }
            await store.commit([takenWrite(reservation), ...jobWrites(before, after)]);
            onJob(after);
        });
    }

    async #releaseEarly(message: MessageRecord): Promise<void> {
        const { store, queue } = this.#parts;
        await queue.locks.hold(message.jobs, async () => {
            const jobs = await this.#jobs(message);
            const held = jobs.filter(({ state }) => state === "reserved");
            const waiting = jobs.filter(({ state }) => state === "unreserved").length;
            const released = held.flatMap((job) => queue.releaseWrites(job).writes);
            await store.commit([...released, outboxWrite(message, waiting)]);
        });
        queue.poke();
    }

    async #obtain(uploader: string) {
        const obtain = () => this.#parts.reservations.obtain(uploader, this.#parts.closing.signal);
        return this.#retrying(uploader, async () => {
            try {
                return await this.#sends.add(obtain);
            } catch (error) {
                if (error instanceof MediaError && error.code === "NOT_SUPPORTED") return "unsupported" as const;
                throw error;
            }
        });
    }

    /** Repeats `action` while it fails with something that passes. */
    async #retrying<T>(what: string, action: () => Promise<T>): Promise<T> {
        for (let attempt = 0; ; attempt++) {
            try {
                return await action();
            } catch (thrown) {
                const error = asMediaError(thrown);
                this.#parts.closing.signal.throwIfAborted();
                if (!error.retryable) throw error;
                const delay = retryDelay(error, attempt);
                this.#parts.logger.warn("A request to the homeserver failed and will be repeated", {
                    what,
                    attempt,
                    code: error.code,
                    delay,
                });
                await sleep(delay, undefined, { signal: this.#parts.closing.signal });
            }
        }
    }

    async #sendUntilAnswered(
        message: MessageRecord,
        content: MessageRecord["content"],
        mayBeSent: boolean,
    ): Promise<string> {
        const { users, logger } = this.#parts;
        let doubtful = mayBeSent;
        let way = 0;
        return this.#retrying(message.id, async () => {
            while (true) {
                const access = users.get(message.sender).access();
                if (doubtful) {
                    const eventId = await this.#sends.add(() => this.#find(access, message));
                    if (eventId !== undefined) return eventId;
                    doubtful = false;
                }
                try {
                    const send = () => sendEvent(access, { ...message, content }, this.#parts.closing.cutOff);
                    return await this.#sends.add(send);
                } catch (thrown) {
                    const error = asMediaError(thrown);
                    doubtful = error.ambiguous || error.code === "HOMESERVER_FAILING";
                    if (error.code !== "FORBIDDEN" || way >= WAYS_INTO_A_ROOM) throw error;
                    await enterRoom(users, message, way++, logger, this.#parts.closing.signal);
                }
            }
        });
    }

    async #find(access: Parameters<typeof findSentEvent>[0], message: MessageRecord): Promise<string | undefined> {
        try {
            return await findSentEvent(access, message, this.#parts.closing.signal);
        } catch (error) {
            // A sender that may not read the room has not sent to it either.
            if (error instanceof MediaError && !error.retryable) return undefined;
            throw error;
        }
    }

    async #journalSent(message: MessageRecord, eventId: string, shown: string): Promise<void> {
        const { store, queue } = this.#parts;
        const finishedAt = Date.now();
        const sent: MessageRecord = { ...message, state: "sent", eventId, shown, finishedAt };
        // Without files nothing will ever be edited: the text need not be kept.
        const kept = message.jobs.length === 0 ? { ...sent, content: {} } : sent;
        const uploaders = new Set<string>();
        await queue.locks.hold(message.jobs, async () => {
            const reserved = (await this.#jobs(message)).filter(({ state }) => state === "reserved");
            for (const { uploader } of reserved) uploaders.add(uploader);
            const released = reserved.map((job) => queue.releaseWrites(job));
            await store.commit([
                messageWrite(kept),
                { collection: OUTBOX, key: outboxKey(message) },
                finishedWrite(finishedAt, "message", message.id),
                ...released.flatMap(({ writes }) => writes),
            ]);
            for (const { job } of released) this.#parts.onJob(job);
        });
        this.#parts.onOutcome(sent, undefined);
        // Whoever waits for the event hears of it before its files and the next message's addresses are seen to.
        setImmediate(() => {
            queue.poke();
            for (const uploader of uploaders) this.#parts.reservations.keepAhead(uploader);
        });
    }

    async #journalRefused(message: MessageRecord, error: MediaError): Promise<void> {
        const { store, reservations, queue } = this.#parts;
        const finishedAt = Date.now();
        const { code } = error;
        const refused: MessageRecord = {
            ...message,
            state: "refused",
            error: { code, message: error.message },
            finishedAt,
        };
        const unused: Reservation[] = [];
        const cancelled: Job[] = [];
        await queue.locks.hold(message.jobs, async () => {
            const jobs = (await this.#jobs(message)).filter(({ state }) => !isFinal(state));
            const writes = jobs.flatMap((job) => {
                const after = transition(job, { type: "cancel", at: finishedAt });
                if (after === undefined) return [];
                const reservation = reservationOf(job);
                if (reservation !== undefined) unused.push(reservation);
                cancelled.push(after);
                return [...jobWrites(job, after), finishedWrite(finishedAt, "job", job.id)];
            });
            await store.commit([
                messageWrite({ ...refused, content: {} }),
                { collection: OUTBOX, key: outboxKey(message) },
                finishedWrite(finishedAt, "message", message.id),
                ...writes,
                ...unused.map((reservation) => reservations.keptWrite(reservation)),
            ]);
        });
        for (const reservation of unused) reservations.giveBack(reservation);
        for (const job of cancelled) this.#parts.onJob(job);
        this.#parts.onOutcome(refused, error);
    }

    #jobs(message: MessageRecord): Promise<Job[]> {
        return loadJobs(this.#parts.store, message.jobs);
    }
}

/** The address of a job that never began: nobody has seen it, so another message may have it. */
function reservationOf({ state, contentUri, expiresAt, presigned, uploader, createdAt }: Job): Reservation | undefined {
    if (state !== "reserved" || contentUri === undefined) return undefined;
    return { contentUri, userId: uploader, createdAt, expiresAt, presigned };
}
