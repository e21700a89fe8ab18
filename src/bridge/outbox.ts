import { setMaxListeners } from "node:events";
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
import { contentFor } from "./event-content.ts";
import { enterRoom, WAYS_INTO_A_ROOM } from "./membership.ts";
import {
    finishedWrite,
    hashOf,
    loadJobs,
    loadMessage,
    type MessageRecord,
    messageWrite,
    OUTBOX,
    outboxKey,
    outboxWrite,
} from "./records.ts";
import { type Reservation, type Reservations, takenWrite } from "./reservations.ts";

/**
 * The rooms' ordered lines of events.
 *
 * Each room with something to send has one lane: it takes the first message of the room's line, gets the addresses
 * its files still need, sends its event, journals the event id together with its jobs becoming ready, and only then
 * takes the next. Lanes run side by side, `MAX_SENDS` requests at once.
 *
 * A lane repeats a sending, with the same transaction id, until the homeserver accepts or finally refuses it. When an
 * answer was lost, or a former process may have sent the event, the lane first looks whether the room has it already:
 * a homeserver forgets transaction ids when it restarts. Only the first message of a line can be in that state,
 * because the next is not sent before its outcome is journaled.
 */
export interface OutboxParts {
    readonly store: Store;
    readonly users: ActingUsers;
    readonly reservations: Reservations;
    readonly queue: UploadQueue;
    readonly logger: Logger;
    readonly onFailure: "notice" | "keep";
    /** Told after the outcome is journaled; `error` only for a refusal. */
    readonly onOutcome: (message: MessageRecord, error: MediaError | undefined) => void;
    /** Told about each job that a lane changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

const MAX_SENDS = 32;
const LANE_RETRY_MS = 1000;
/** How long events that are on their way have when the component closes. */
const GRACE_MS = 5000;

export class Outbox {
    readonly #parts: OutboxParts;
    readonly #lanes = new Map<string, { again: boolean; readonly done: Promise<void> }>();
    readonly #sends = new PQueue({ concurrency: MAX_SENDS });
    readonly #closing = new AbortController();
    /** Aborts a while after `#closing`: cutting an event off midway leaves it in doubt until the next start. */
    readonly #cutOff = new AbortController();

    constructor(parts: OutboxParts) {
        this.#parts = parts;
        // Every lane that waits listens.
        setMaxListeners(0, this.#closing.signal, this.#cutOff.signal);
    }

    /** Opens a lane for every room that an earlier run left something for. */
    async start(): Promise<void> {
        // All rooms first: lanes that work already would only slow down the looking.
        for (const roomId of await this.#rooms()) this.#open(roomId, true);
    }

    async #rooms(): Promise<string[]> {
        const rooms: string[] = [];
        let after: string | undefined;
        do {
            const previous: string | undefined = after;
            after = undefined;
            const range = { collection: OUTBOX, limit: 1, ...(previous !== undefined && { after: previous }) };
            for await (const key of this.#parts.store.keys(range)) {
                const [roomId = ""] = key.split(" ");
                rooms.push(roomId);
                // On to the next room, however long this one's line is.
                after = `${roomId} \u{10FFFF}`;
            }
        } while (after !== undefined);
        return rooms;
    }

    /** Tells that the room's line has grown. */
    notify(roomId: string): void {
        const lane = this.#lanes.get(roomId);
        if (lane === undefined) this.#open(roomId, false);
        else lane.again = true;
    }

    /** Lets sendings that are under way come to their end, begins no other. */
    async close(): Promise<void> {
        this.#closing.abort(new MediaError("CLOSED"));
        const grace = setTimeout(() => this.#cutOff.abort(new MediaError("CLOSED")), GRACE_MS);
        await Promise.all([...this.#lanes.values()].map(({ done }) => done));
        clearTimeout(grace);
    }

    #open(roomId: string, doubtful: boolean): void {
        if (this.#closing.signal.aborted) return;
        const lane = { again: true, done: Promise.resolve() };
        this.#lanes.set(roomId, lane);
        lane.done = this.#run(roomId, lane, doubtful).finally(() => {
            this.#lanes.delete(roomId);
            // Told after the last look and before this line.
            if (lane.again) this.#open(roomId, false);
        });
    }

    async #run(roomId: string, lane: { again: boolean }, doubtful: boolean): Promise<void> {
        let mayBeSent = doubtful;
        while (lane.again) {
            lane.again = false;
            try {
                for (
                    let message = await this.#first(roomId);
                    message !== undefined;
                    message = await this.#first(roomId)
                ) {
                    await this.#deliver(message, mayBeSent);
                    mayBeSent = false;
                }
            } catch (error) {
                if (this.#closing.signal.aborted) return;
                this.#parts.logger.error("A room's line could not go on and will be tried again", { roomId, error });
                await sleep(LANE_RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
                mayBeSent = true;
                lane.again = true;
            }
        }
    }

    async #first(roomId: string): Promise<MessageRecord | undefined> {
        const { store } = this.#parts;
        for await (const [key, record] of store.range({ collection: OUTBOX, prefix: `${roomId} `, limit: 1 })) {
            this.#closing.signal.throwIfAborted();
            const message = await loadMessage(store, String(record["id"]));
            if (message !== undefined && message.state === "queued") return message;
            // Its record was lost to damage, which the store has reported.
            await store.commit([{ collection: OUTBOX, key }]);
            return this.#first(roomId);
        }
        return undefined;
    }

    /** Brings one message to its end. Rejects, with the message still in line, for what passes. */
    async #deliver(message: MessageRecord, mayBeSent: boolean): Promise<void> {
        try {
            await this.#reserve(message);
            const content = contentFor(message.content, await this.#jobs(message), this.#parts.onFailure);
            const eventId = await this.#sendUntilAnswered(message, content, mayBeSent);
            await this.#journalSent(message, eventId, hashOf(content));
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (this.#closing.signal.aborted || error.retryable) throw error;
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
                    if (job !== undefined) await this.#parts.queue.runNow(job, this.#closing.signal);
                    done = true;
                } else if ("reservation" in obtained) {
                    await this.#assign(id, obtained.reservation);
                    done = true;
                } else {
                    // The places this very message holds would never be freed if its uploads waited for its event.
                    await this.#releaseEarly(message);
                    await this.#parts.reservations.waitForPlace(uploader, obtained.blockedForMs, this.#closing.signal);
                }
            }
        }
    }

    async #assign(jobId: string, reservation: Reservation): Promise<void> {
        const { store, reservations, queue, onJob } = this.#parts;
        const { contentUri, expiresAt } = reservation;
        await queue.locks.hold([jobId], async () => {
            const [before] = await loadJobs(store, [jobId]);
            const after = before && transition(before, { type: "reserve", contentUri, expiresAt });
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
        const obtain = () => this.#parts.reservations.obtain(uploader, this.#closing.signal);
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
                this.#closing.signal.throwIfAborted();
                if (!error.retryable) throw error;
                const delay = retryDelay(error, attempt);
                this.#parts.logger.warn("A request to the homeserver failed and will be repeated", {
                    what,
                    attempt,
                    code: error.code,
                    delay,
                });
                await sleep(delay, undefined, { signal: this.#closing.signal });
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
                    const send = () => sendEvent(access, { ...message, content }, this.#cutOff.signal);
                    return await this.#sends.add(send);
                } catch (thrown) {
                    const error = asMediaError(thrown);
                    doubtful = error.ambiguous || error.code === "HOMESERVER_FAILING";
                    if (error.code !== "FORBIDDEN" || way >= WAYS_INTO_A_ROOM) throw error;
                    await enterRoom(users, message, way++, logger, this.#closing.signal);
                }
            }
        });
    }

    async #find(access: Parameters<typeof findSentEvent>[0], message: MessageRecord): Promise<string | undefined> {
        try {
            return await findSentEvent(access, message, this.#closing.signal);
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
function reservationOf({ state, contentUri, expiresAt, uploader, createdAt }: Job): Reservation | undefined {
    if (state !== "reserved" || contentUri === undefined) return undefined;
    return { contentUri, userId: uploader, createdAt, expiresAt };
}
