import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Access, ActingUsers } from "../matrix/client.ts";
import { findSentEvent, redactEvent, sendEvent } from "../matrix/room-endpoints.ts";
import { Unrepeated } from "../matrix/unrepeated.ts";
import type { RightOfWay } from "../right-of-way.ts";
import type { Store, Write } from "../store/store.ts";
import { isFinal, type Job } from "../uploads/job.ts";
import { transition } from "../uploads/transition.ts";
import { jobWrites } from "../uploads/job-records.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import type { Release, UploadQueue } from "../uploads/queue.ts";
import { Addressing } from "./addressing.ts";
import type { Closing } from "./closing.ts";
import { lostJobWrites } from "./damage/lost-jobs.ts";
import { type PreparationParts, prepareFiles } from "./encrypted-files.ts";
import type { Addresses } from "./dedupe/addresses.ts";
import { originalOf, withEditEvent } from "./edits.ts";
import type { FailurePolicy } from "./event-content.ts";
import type { HomeserverRequests } from "./homeserver-requests.ts";
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
    reviseMark,
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
    readonly requests: HomeserverRequests;
    /** Held by whoever changes a message's record, from reading it until the change is journaled. */
    readonly messageLocks: KeyedLocks;
    readonly withdrawals: Withdrawals;
    readonly way: RightOfWay;
    /** How a job becomes ready with its event. To be called in the step of the commit, while the job's lock is held. */
    readonly release: (job: Job) => Release;
    /** Told after the outcome is journaled; `error` only for a refusal. */
    readonly onOutcome: (message: MessageRecord, error: MediaError | undefined) => void;
    /** Told about each job that was changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

export class Delivery {
    readonly #parts: DeliveryParts;
    readonly #addressing: Addressing;
    readonly #answers = new Unrepeated();

    constructor(parts: DeliveryParts) {
        this.#parts = parts;
        this.#addressing = new Addressing(parts);
    }

    /** Brings one message to its end. Rejects, with the message still in line, for what passes. */
    async deliver(id: string, mayBeSent: boolean): Promise<void> {
        const begun = await this.#begin(id);
        // Taken back after the lane had read it.
        if (begun === undefined) return;
        const { stop } = begun;
        let { message } = begun;
        try {
            await this.#tellLostFiles(message);
            // Before another address is looked for: an event that is in the room shows the one it was sent with.
            const eventId = mayBeSent ? await this.#lookFor(message) : undefined;
            if (eventId === undefined) {
                message = await this.#encrypted(message, stop);
                await this.#addressing.reserve(message, stop);
            } else {
                message = await this.#withKeys(message, stop);
            }
            const { store, onFailure } = this.#parts;
            // Its files may have been given other addresses while it waited for one.
            const current = message.jobs.length === 0 ? message : ((await loadMessage(store, id)) ?? message);
            const now = await outgoing(store, current, onFailure);
            if (eventId !== undefined) return await this.#journalSent(message, eventId, foundAgain(now));
            const sent = await this.#sendUntilAnswered(message, now.content, stop);
            await this.#parts.way.first(() => this.#journalSent(message, sent, now));
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (this.#parts.closing.signal.aborted || error.retryable) throw error;
            await this.#journalRefused(message, error);
        } finally {
            this.#parts.withdrawals.leave(id);
        }
    }

    /**
     * An event that is there although its files were not prepared: damage has brought back a journal from before. What has
     * no address yet is encrypted for another one, and an edit shows it; what has one could be there with another key.
     */
    async #withKeys(message: MessageRecord, stop: AbortSignal): Promise<MessageRecord> {
        const older = (await this.#jobs(message)).filter(lacksKey);
        if (older.length === 0 || !(await this.#parts.encryption.isDue(message, stop))) return message;
        for (const { id, contentUri } of older) if (contentUri !== undefined) await this.#parts.queue.cancel(id);
        return this.#encrypted(message, stop);
    }

    /** Files whose records are gone are told as failed with the message itself. */
    async #tellLostFiles(message: MessageRecord): Promise<void> {
        const { lost, writes } = await lostJobWrites(this.#parts.store, message);
        await this.#parts.store.commit(writes);
        for (const job of lost) this.#parts.onJob(job);
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
                    const eventId = await this.#parts.requests.one(() => this.#find(access, message));
                    if (eventId !== undefined) return eventId;
                    doubtful = false;
                }
                stop.throwIfAborted();
                try {
                    if (isSealed(message)) sealed ??= await this.#parts.encryption.seal(message, content, stop);
                    const event = { ...message, content, ...sealed };
                    const send = async () => {
                        const eventId = await this.#put(access, event);
                        this.#answers.check(eventId, event.transactionId);
                        return eventId;
                    };
                    return await this.#parts.requests.one(send);
                } catch (thrown) {
                    const error = asMediaError(thrown);
                    doubtful = error.ambiguous || error.code === "HOMESERVER_FAILING";
                    if (error.code !== "FORBIDDEN" || way >= WAYS_INTO_A_ROOM) throw error;
                    const barred = await enterRoom(users, message, way, logger, this.#parts.closing.signal);
                    if (barred !== undefined) throw barred;
                    way++;
                }
            }
        };
        return this.#parts.requests.untilAnswered(message.id, attempt, stop);
    }

    #put(access: Access, event: MessageRecord): Promise<string> {
        const { redacts } = event;
        if (redacts !== undefined) return this.#redact(access, { ...event, redacts });
        return sendEvent(access, event, this.#parts.closing.cutOff);
    }

    /**
     * Redacts an event, and its edits before it: clients no longer apply them then, but each of them is an event of its own
     * that goes on saying what was said (spec, "Redactions of edited events"). They stand before it in the line.
     */
    async #redact(access: Access, event: MessageRecord & { readonly redacts: string }): Promise<string> {
        const { cutOff } = this.#parts.closing;
        const original = await loadMessage(this.#parts.store, originalOf(event) ?? "");
        for (const [index, redacts] of (original?.editEvents ?? []).entries()) {
            const transactionId = `${event.transactionId}.${index}`;
            await redactEvent(access, { ...event, redacts, transactionId }, cutOff);
        }
        return redactEvent(access, event, cutOff);
    }

    #lookFor(message: MessageRecord): Promise<string | undefined> {
        const look = () => this.#find(this.#parts.users.get(message.sender).access(), message);
        return this.#parts.requests.untilAnswered(message.id, () => this.#parts.requests.one(look));
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

    async #journalSent(
        { id, edits, redacts, encrypted }: MessageRecord,
        eventId: string,
        now: Outgoing,
    ): Promise<void> {
        const { store, messageLocks } = this.#parts;
        const of = redacts === undefined ? originalOf({ id, edits }) : undefined;
        const locked = of === undefined ? [id] : [id, of];
        await messageLocks.hold(locked, async () => {
            // As it is by now: its files may have been given other addresses, and it may have been withdrawn.
            const message = await loadMessage(store, id);
            if (message === undefined) return;
            const original = of === undefined ? undefined : await loadMessage(store, of);
            // A revision that was worked out meanwhile stands behind this edit in the line.
            const isNewest = edits !== undefined && original?.revisions === now.revisions;
            const also: Write[] = [];
            if (original !== undefined) {
                const edited = withEditEvent(original, eventId);
                also.push(messageWrite(isNewest ? { ...edited, shown: now.shown } : edited));
            }
            // Its files' keys were kept for this edit.
            if (edits !== undefined && original?.encrypted === true) also.push(reviseMark(original.id));
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
            // Unreserved only where damage has brought back a record from before its event.
            const reserved = (await this.#jobs(message)).filter(
                ({ state }) => state === "reserved" || state === "unreserved",
            );
            for (const { uploader } of reserved) uploaders.add(uploader);
            const released = reserved.map((job) => this.#parts.release(job));
            const writes = [
                messageWrite(kept),
                { collection: OUTBOX, key: outboxKey(message) },
                finishedWrite(finishedAt, "message", message.id),
                ...released.flatMap((release) => release.writes),
                ...(message.redact === true ? [reviseMark(message.id)] : []),
                ...also,
            ];
            await store.commit(writes).catch((error: unknown) => {
                for (const release of released) release.undo();
                throw error;
            });
            for (const release of released) {
                this.#parts.onJob(release.job);
                release.confirm();
            }
        });
        this.#parts.onOutcome(sent, undefined);
        if (uploaders.size === 0) return;
        // Whoever waits for the event hears of it before the next message's addresses are seen to.
        setImmediate(() => {
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
                ...(message.encrypted === true ? [reviseMark(message.id)] : []),
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

/** Of a job that waits for its event. */
function lacksKey({ state, dueAt, encryption }: Job): boolean {
    return !isFinal(state) && dueAt === undefined && encryption?.file === undefined;
}

/** What a former process sent may show an address that was replaced since; then it is looked at anew. */
function foundAgain(now: Outgoing): Outgoing {
    return now.hasReplaced === true ? { ...now, shown: "" } : now;
}

/** The address of a job that never began: nobody has seen it, so another message may have it. A shared one is its file's. */
function reservationOf(job: Job): Reservation | undefined {
    const { state, contentUri, expiresAt, presigned, uploader, createdAt } = job;
    if (state !== "reserved" || contentUri === undefined || job.dedupe !== undefined) return undefined;
    return { contentUri, userId: uploader, createdAt, expiresAt, presigned };
}
