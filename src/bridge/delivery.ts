import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Access, ActingUsers } from "../matrix/client.ts";
import { findSentEvent, redactEvent, sendEvent } from "../matrix/room-endpoints.ts";
import type { Store, Write } from "../store/store.ts";
import { isFinal, type Job, jobWrites, transition } from "../uploads/job.ts";
import { runsOut } from "../uploads/expiry.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import { retryDelay } from "../uploads/retry.ts";
import type { Closing } from "./closing.ts";
import { type PreparationParts, prepareFiles } from "./encrypted-files.ts";
import type { Addresses } from "./dedupe/addresses.ts";
import type { FailurePolicy } from "./event-content.ts";
import { enterRoom, WAYS_INTO_A_ROOM } from "./membership.ts";
import { type Outgoing, outgoing } from "./outgoing.ts";
import {
    finishedWrite,
    loadJobs,
    loadMessage,
    type MessageRecord,
    messageWrite,
    OUTBOX,
    outboxKey,
    outboxWrite,
    REVISE,
} from "./records.ts";
import type { Reservation, Reservations } from "./reservations.ts";
import { isSealed, type RoomEncryption, type SealedEvent } from "./room-encryption.ts";
import type { Withdrawals } from "./withdrawals.ts";

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
    readonly addresses: Addresses;
    readonly queue: UploadQueue;
    readonly logger: Logger;
    readonly onFailure: FailurePolicy;
    readonly encryption: RoomEncryption;
    readonly strategy: PreparationParts["strategy"];
    readonly closing: Closing;
    /** Held by whoever changes a message's record, from reading it until the change is journaled. */
    readonly messageLocks: KeyedLocks;
    readonly withdrawals: Withdrawals;
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
    async deliver({ id }: MessageRecord, mayBeSent: boolean): Promise<void> {
        const begun = await this.#begin(id);
        // Taken back after the lane had read it.
        if (begun === undefined) return;
        const { stop } = begun;
        let { message } = begun;
        try {
            // Before another address is looked for: an event that is in the room shows the one it was sent with.
            let eventId = mayBeSent ? await this.#lookFor(message) : undefined;
            if (eventId === undefined) {
                message = await this.#encrypted(message, stop);
                await this.#reserve(message, stop);
            }
            const { store, onFailure } = this.#parts;
            // Its files may have been given other addresses while it waited for one.
            const current = message.jobs.length === 0 ? message : ((await loadMessage(store, id)) ?? message);
            const now = await outgoing(store, current, onFailure);
            if (eventId !== undefined) return await this.#journalSent(message, eventId, foundAgain(now));
            eventId = await this.#sendUntilAnswered(message, now.content, stop);
            await this.#journalSent(message, eventId, now);
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (this.#parts.closing.signal.aborted || error.retryable) throw error;
            await this.#journalRefused(message, error);
        } finally {
            this.#parts.withdrawals.leave(id);
        }
    }

    /** Encrypts its files first, where its event has to be encrypted. */
    async #encrypted(message: MessageRecord, stop: AbortSignal): Promise<MessageRecord> {
        if (!(await this.#parts.encryption.isDue(message, stop))) return message;
        return prepareFiles(message, { ...this.#parts, closing: this.#parts.closing.signal, stop });
    }

    /** Takes a message out of its line that no lane is delivering. To be called while its lock is held. */
    async takeOut(message: MessageRecord): Promise<void> {
        await this.#refuse(message, new MediaError("CANCELLED"));
    }

    #begin(id: string): Promise<{ message: MessageRecord; stop: AbortSignal } | undefined> {
        const { store, messageLocks, withdrawals, closing } = this.#parts;
        return messageLocks.hold([id], async () => {
            const message = await loadMessage(store, id);
            if (message?.state !== "queued") return undefined;
            const stop = withdrawals.enter(id, closing.signal);
            if (message.withdrawn === true) withdrawals.tell(id);
            return { message, stop };
        });
    }

    /** Gets an MXC for each of the message's files that has none, and journals each as soon as it is there. */
    async #reserve(message: MessageRecord, stop: AbortSignal): Promise<void> {
        for (const job of await this.#jobs(message)) {
            const { id, uploader } = job;
            if (!needsAddress(job)) continue;
            for (let done = false; !done; ) {
                if (await this.#share(job)) break;
                // The others with the same file wait for this one's address, but not for the uploads of what it waits for.
                const obtained = await this.#parts.addresses.alone(job, () => this.#obtainAddress(job, stop));
                if (obtained === "unsupported") {
                    const [now] = await loadJobs(this.#parts.store, [id]);
                    if (now !== undefined) await this.#upload(now);
                    done = true;
                } else if (obtained === "assigned") {
                    done = true;
                } else if (obtained !== "shared") {
                    // The places this very message holds would never be freed if its uploads waited for its event.
                    await this.#releaseEarly(message);
                    await this.#parts.reservations.waitForPlace(uploader, obtained.blockedForMs, stop);
                }
            }
        }
    }

    /** Gives a job an address of its own, unless its file has got one meanwhile. */
    async #obtainAddress(job: Job, stop: AbortSignal) {
        const { id, uploader } = job;
        if (await this.#parts.addresses.hasShared(job)) return "shared" as const;
        const obtained = await this.#obtain(uploader, stop);
        if (obtained === "unsupported" || !("reservation" in obtained)) return obtained;
        await this.#assign(id, obtained.reservation);
        return "assigned" as const;
    }

    async #assign(jobId: string, reservation: Reservation): Promise<void> {
        const { store, reservations, addresses, queue, onJob } = this.#parts;
        await queue.locks.hold([jobId], async () => {
            const [before] = await loadJobs(store, [jobId]);
            const after = before && (await addresses.assign(before, reservation));
            if (after === undefined) {
                // Cancelled meanwhile: the address is for somebody else.
                await store.commit([reservations.keptWrite(reservation)]);
                return reservations.giveBack(reservation);
            }
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

    #upload(job: Job): Promise<Job> {
        const { queue, addresses, closing } = this.#parts;
        return addresses.alone(job, () => queue.runNow(job, closing.signal));
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

    async #obtain(uploader: string, stop: AbortSignal) {
        const obtain = () => this.#parts.reservations.obtain(uploader, this.#parts.closing.signal);
        const attempt = async () => {
            stop.throwIfAborted();
            try {
                return await this.#sends.add(obtain);
            } catch (error) {
                if (error instanceof MediaError && error.code === "NOT_SUPPORTED") return "unsupported" as const;
                throw error;
            }
        };
        return this.#retrying(uploader, attempt, stop);
    }

    /** Repeats `action` while it fails with something that passes. */
    async #retrying<T>(what: string, action: () => Promise<T>, stop?: AbortSignal): Promise<T> {
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
                const { signal } = this.#parts.closing;
                // Woken once by a withdrawal; whether the event is out has to be found out all the same.
                const woken = stop !== undefined && !stop.aborted ? stop : signal;
                await sleep(delay, undefined, { signal: woken }).catch(() => {});
                signal.throwIfAborted();
            }
        }
    }

    async #sendUntilAnswered(
        message: MessageRecord,
        content: MessageRecord["content"],
        stop: AbortSignal,
    ): Promise<string> {
        const { users, logger } = this.#parts;
        let doubtful = false;
        let way = 0;
        let sealed: SealedEvent | undefined;
        const attempt = async (): Promise<string> => {
            while (true) {
                const access = users.get(message.sender).access();
                if (doubtful) {
                    const eventId = await this.#sends.add(() => this.#find(access, message));
                    if (eventId !== undefined) return eventId;
                    doubtful = false;
                }
                stop.throwIfAborted();
                try {
                    if (isSealed(message)) sealed ??= await this.#parts.encryption.seal(message, content, stop);
                    const event = { ...message, content, ...sealed };
                    const send = () => this.#put(access, event);
                    return await this.#sends.add(send);
                } catch (thrown) {
                    const error = asMediaError(thrown);
                    doubtful = error.ambiguous || error.code === "HOMESERVER_FAILING";
                    if (error.code !== "FORBIDDEN" || way >= WAYS_INTO_A_ROOM) throw error;
                    await enterRoom(users, message, way++, logger, this.#parts.closing.signal);
                }
            }
        };
        return this.#retrying(message.id, attempt, stop);
    }

    #put(access: Access, event: MessageRecord): Promise<string> {
        const { cutOff } = this.#parts.closing;
        const { redacts } = event;
        if (redacts !== undefined) return redactEvent(access, { ...event, redacts }, cutOff);
        return sendEvent(access, event, cutOff);
    }

    #lookFor(message: MessageRecord): Promise<string | undefined> {
        const look = () => this.#find(this.#parts.users.get(message.sender).access(), message);
        return this.#retrying(message.id, () => this.#sends.add(look));
    }

    async #find(access: Access, message: MessageRecord): Promise<string | undefined> {
        try {
            return await findSentEvent(access, message, this.#parts.closing.signal);
        } catch (error) {
            // A sender that may not read the room has not sent to it either.
            if (error instanceof MediaError && !error.retryable) return undefined;
            throw error;
        }
    }

    async #journalSent({ id, edits, encrypted }: MessageRecord, eventId: string, now: Outgoing): Promise<void> {
        const { store, messageLocks } = this.#parts;
        const locked = edits === undefined ? [id] : [id, edits];
        await messageLocks.hold(locked, async () => {
            // As it is by now: its files may have been given other addresses, and it may have been withdrawn.
            const message = await loadMessage(store, id);
            if (message === undefined) return;
            const original = edits === undefined ? undefined : await loadMessage(store, edits);
            // A revision that was worked out meanwhile stands behind this edit in the line.
            const isNewest = original !== undefined && original.revisions === now.revisions;
            const also: Write[] = isNewest ? [messageWrite({ ...original, shown: now.shown })] : [];
            // Its files' keys were kept for this edit.
            if (original?.encrypted === true) also.push({ collection: REVISE, key: original.id, record: {} });
            await this.#sent({ ...message, encrypted }, eventId, now.shown, also);
        });
    }

    async #sent(message: MessageRecord, eventId: string, shown: string, also: readonly Write[]): Promise<void> {
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
                ...(message.redact === true ? [{ collection: REVISE, key: message.id, record: {} }] : []),
                ...also,
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

    async #journalRefused({ id }: MessageRecord, error: MediaError): Promise<void> {
        const { store, messageLocks, queue } = this.#parts;
        const underWay = await messageLocks.hold([id], async () => {
            const message = await loadMessage(store, id);
            return message === undefined ? [] : this.#refuse(message, error);
        });
        // Only now: a transfer that is just replacing its address waits for the message's lock.
        for (const job of underWay) await queue.cancel(job);
    }

    /** Resolves with the jobs that are under way, which journal their own end. */
    async #refuse(message: MessageRecord, error: MediaError): Promise<string[]> {
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
        const underWay: string[] = [];
        await queue.locks.hold(message.jobs, async () => {
            const jobs = (await this.#jobs(message)).filter(({ state }) => !isFinal(state));
            const writes = jobs.flatMap((job) => {
                if (job.state === "transferring" || job.state === "completing") {
                    underWay.push(job.id);
                    return [];
                }
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
                // Its files' keys are to be forgotten.
                ...(message.encrypted === true ? [{ collection: REVISE, key: message.id, record: {} }] : []),
                ...writes,
                ...unused.map((reservation) => reservations.keptWrite(reservation)),
            ]);
        });
        for (const reservation of unused) reservations.giveBack(reservation);
        for (const job of cancelled) this.#parts.onJob(job);
        this.#parts.onOutcome(refused, error);
        return underWay;
    }

    #jobs(message: MessageRecord): Promise<Job[]> {
        return loadJobs(this.#parts.store, message.jobs);
    }
}

/** What a former process sent may show an address that was replaced since; then it is looked at anew. */
function foundAgain(now: Outgoing): Outgoing {
    return now.hasReplaced === true ? { ...now, shown: "" } : now;
}

/** Before its event is sent a file may have any address: one that has run out is replaced without an edit. */
function needsAddress(job: Job): boolean {
    if (isFinal(job.state)) return false;
    return job.contentUri === undefined || (job.state === "reserved" && runsOut(job, Date.now()));
}

/** The address of a job that never began: nobody has seen it, so another message may have it. A shared one is its file's. */
function reservationOf(job: Job): Reservation | undefined {
    const { state, contentUri, expiresAt, presigned, uploader, createdAt } = job;
    if (state !== "reserved" || contentUri === undefined || job.dedupe !== undefined) return undefined;
    return { contentUri, userId: uploader, createdAt, expiresAt, presigned };
}
