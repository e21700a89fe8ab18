import { isDeepStrictEqual } from "node:util";
import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { mayBeAProxys, mayPass } from "../matrix/answer.ts";
import type { Access, ActingUsers } from "../matrix/client.ts";
import { findSentEvent, type FoundEvent, redactEvent, sendEvent } from "../matrix/room-endpoints.ts";
import type { Unrepeated } from "../matrix/unrepeated.ts";
import type { RightOfWay } from "../right-of-way.ts";
import { isFinal, type Job } from "../uploads/job.ts";
import type { SourceGate } from "../uploads/source-gate.ts";
import { Addressing } from "./addressing.ts";
import type { Closing } from "./closing.ts";
import { lostJobWrites } from "./damage/lost-jobs.ts";
import { type PreparationParts, prepareFiles } from "./encrypted-files.ts";
import type { Addresses } from "./dedupe/addresses.ts";
import { originalOf } from "./edits.ts";
import type { Endings, EndingsParts } from "./endings.ts";
import type { FailurePolicy } from "./event-content.ts";
import type { HomeserverRequests } from "./homeserver-requests.ts";
import { enterRoom, WAYS_INTO_A_ROOM } from "./membership.ts";
import { type Outgoing, outgoing } from "./outgoing.ts";
import { loadJobs, loadMessage, type MessageRecord } from "./records.ts";
import type { Registered } from "./registered.ts";
import { isSealed, type RoomEncryption, SEALED, type SealedEvent } from "./room-encryption.ts";
import type { Withdrawals } from "./withdrawals.ts";

/**
 * The way of one message from its room's line to its event: gets the addresses that its files still need, sends the event
 * until the homeserver accepts or finally refuses it, and has the outcome journaled (endings.ts).
 *
 * Every try has the same transaction id. When an answer was lost, or a former process may have sent the event, it first
 * looks whether the room has it already: a homeserver forgets transaction ids when it restarts.
 */
export interface DeliveryParts
    extends Pick<EndingsParts, "store" | "reservations" | "queue" | "messageLocks" | "onJob"> {
    readonly endings: Endings;
    readonly users: ActingUsers;
    readonly registered: Registered;
    readonly addresses: Addresses;
    readonly gate: SourceGate;
    readonly logger: Logger;
    readonly onFailure: FailurePolicy;
    readonly encryption: RoomEncryption;
    readonly strategy: PreparationParts["strategy"];
    readonly closing: Closing;
    readonly requests: HomeserverRequests;
    readonly withdrawals: Withdrawals;
    readonly way: RightOfWay;
    /** Events' ids of late. */
    readonly answers: Unrepeated;
}

export class Delivery {
    readonly #parts: DeliveryParts;
    readonly #addressing: Addressing;

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
        const { store, onFailure } = this.#parts;
        let { message } = begun;
        try {
            await this.#tellLostFiles(message);
            // Before another address is looked for: an event that is in the room shows the one it was sent with.
            const found = mayBeSent ? await this.#lookFor(message) : undefined;
            if (found === undefined) {
                message = await this.#encrypted(message, stop);
                await this.#addressing.reserve(message, stop);
            } else {
                message = await this.#withKeys(message, stop);
            }
            const policy = found?.eventType === SEALED ? asSent(onFailure) : onFailure;
            // Its files may have been given other addresses while it waited for one.
            const current = message.jobs.length === 0 ? message : ((await loadMessage(store, id)) ?? message);
            const now = await outgoing(store, current, policy).catch((error: unknown): Outgoing => {
                if (found === undefined || asMediaError(error).retryable) throw error;
                return lostOriginal(current);
            });
            if (found !== undefined) return await this.#parts.endings.sent(message, found.eventId, asFound(found, now));
            const { eventType } = now;
            const saying = eventType === message.eventType ? message : { ...message, eventType };
            if (saying.redacts !== undefined) await this.#redactEdits(saying, mayBeSent, stop);
            const sent = await this.#sendUntilAnswered(saying, now.content, stop);
            // By its transaction id it may have been there already, unseen by the look.
            const known = mayBeSent ? unlessItDiffered(now) : now;
            await this.#parts.way.first(() => this.#parts.endings.sent(message, sent, known));
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (this.#parts.closing.signal.aborted || error.retryable) throw error;
            await this.#parts.endings.refused(message, error);
        } finally {
            this.#parts.withdrawals.leave(id);
        }
    }

    /**
     * An event that is there although its files were not prepared: damage has brought back a journal from before. What has
     * no address yet is encrypted for another one, and an edit shows it; what has one could be there with another key.
     */
    async #withKeys(message: MessageRecord, stop: AbortSignal): Promise<MessageRecord> {
        const older = (await loadJobs(this.#parts.store, message.jobs)).filter(lacksKey);
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
                    const found = await this.#lookFor(message, stop);
                    if (found !== undefined) return found.eventId;
                    doubtful = false;
                }
                stop.throwIfAborted();
                try {
                    if (isSealed(message)) sealed ??= await this.#parts.encryption.seal(message, content, stop);
                    const event = { ...message, content, ...sealed };
                    return await this.#parts.requests.one(() => this.#put(access, event));
                } catch (thrown) {
                    const error = asMediaError(thrown);
                    doubtful = error.ambiguous || error.code === "HOMESERVER_FAILING";
                    if (error.code !== "FORBIDDEN" || mayBeAProxys(error) || way >= WAYS_INTO_A_ROOM) throw error;
                    const barred = await enterRoom(users, message, way, logger, this.#parts.closing.signal);
                    if (barred !== undefined) throw barred;
                    way++;
                }
            }
        };
        return this.#parts.requests.untilAnswered(message, attempt, stop);
    }

    #put(access: Access, event: MessageRecord): Promise<string> {
        const { redacts, transactionId } = event;
        const { answers, closing } = this.#parts;
        const waiting = { signal: closing.cutOff, check: (id: string) => answers.check(id, transactionId) };
        return redacts === undefined
            ? sendEvent(access, event, waiting)
            : redactEvent(access, { ...event, redacts }, waiting);
    }

    /**
     * Redacts the edits of what is to be redacted: clients no longer apply them then, but each of them is an event of its own
     * that goes on saying what was said (spec, "Redactions of edited events"). They stand before it in the line. Each has an
     * answer of its own, so that none is redacted again for another's.
     */
    async #redactEdits(event: MessageRecord, mayBeSent: boolean, stop: AbortSignal): Promise<void> {
        const original = await loadMessage(this.#parts.store, originalOf(event) ?? "");
        let isDoubtful = mayBeSent;
        for (const [index, redacts] of (original?.editEvents ?? []).entries()) {
            const ofEdit = { ...event, redacts, transactionId: `${event.transactionId}.${index}` };
            if (isDoubtful && (await this.#lookFor(ofEdit, stop)) !== undefined) continue;
            // Behind the first one that is not there nothing was sent.
            isDoubtful = false;
            await this.#sendUntilAnswered(ofEdit, event.content, stop);
        }
    }

    /** The event that an earlier try may have brought into the room. */
    async #lookFor(message: MessageRecord, stop?: AbortSignal): Promise<FoundEvent | undefined> {
        const look = () => this.#find(this.#parts.users.get(message.sender).access(), message);
        try {
            return await this.#parts.requests.untilAnswered(message, () => this.#parts.requests.one(look), stop);
        } catch (thrown) {
            // Refused again and again by a page: the transaction id is what is left against a second event.
            if (mayBeAProxys(asMediaError(thrown))) return undefined;
            throw thrown;
        }
    }

    async #find(access: Access, message: MessageRecord): Promise<FoundEvent | undefined> {
        try {
            return await findSentEvent(access, message, this.#parts.closing.signal);
        } catch (error) {
            // A sender that may not read the room has not sent to it either.
            if (error instanceof MediaError && !mayPass(error)) return undefined;
            throw error;
        }
    }
}

/** Of an event that cannot be read: an edit will say what has become of its files since it was sent. */
function asSent({ texts }: FailurePolicy): FailurePolicy {
    return { mode: "keep", texts };
}

/** Of a job that waits for its event. */
function lacksKey({ state, dueAt, encryption }: Job): boolean {
    return !isFinal(state) && dueAt === undefined && encryption?.file === undefined;
}

/**
 * Of an edit that is in the room, although what it edits has been taken back since: it is journaled all the same, because
 * the redaction behind it has to find its event.
 */
function lostOriginal({ eventType }: MessageRecord): Outgoing {
    return { eventType, content: {}, shown: "" };
}

/** What a former process sent may show what is so no longer: where that cannot be ruled out, what it shows is not known. */
function asFound({ eventType, content, isRedacted }: FoundEvent, now: Outgoing): Outgoing {
    // It is not said again.
    if (isRedacted) return now;
    if (eventType === SEALED) return unlessItDiffered(now);
    const isSame = isDeepStrictEqual(content, JSON.parse(JSON.stringify(now.content)));
    return isSame ? now : { ...now, shown: "" };
}

function unlessItDiffered(now: Outgoing): Outgoing {
    return now.mayHaveDiffered === true ? { ...now, shown: "" } : now;
}
