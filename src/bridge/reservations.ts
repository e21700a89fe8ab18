import { randomUUID } from "node:crypto";
import PQueue from "p-queue";
import { asMediaError, MediaError } from "../errors.ts";
import { unlessAborted } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import type { ActingUsers } from "../matrix/client.ts";
import { type CreatedMedia, createMedia } from "../matrix/media-endpoints.ts";
import type { Unrepeated } from "../matrix/unrepeated.ts";
import type { Store, StoredRecord, Write } from "../store/store.ts";
import { isFinal, type Job, type PresignedUpload } from "../uploads/job.ts";
import { steadyNow } from "../uploads/steady-clock.ts";
import { Closing } from "./closing.ts";
import { type Blocked, UserLimits } from "./user-limits.ts";

/**
 * MXC URIs from `/create` that have no content yet.
 *
 * A few are kept ahead for each user that sends media, so that a media message costs one request. They are journaled
 * as soon as they exist: a homeserver allows a user only a few unused ones (Synapse: 5) and takes none back before it
 * expires, so a forgotten one is a place lost for a day. One that is close to its end is dropped.
 */
export interface Reservation {
    readonly contentUri: string;
    readonly userId: string;
    readonly createdAt: number;
    readonly expiresAt?: number | undefined;
    /** Where the homeserver wants the file instead; a secret. */
    readonly presigned?: PresignedUpload | undefined;
}

export type Obtained = { readonly reservation: Reservation } | Blocked;

export const RESERVATIONS = "reservation";

/** Over all users together, so that neither memory nor a start grows with their number. */
const MAX_AHEAD = 400;
/** A server that does not say when an unused one ends is assumed to be as quick as the quickest known. */
const ASSUMED_LIFETIME_MS = 30 * 60_000;
/** With less than this part of its life left, a reservation is no longer worth taking. */
const WORTH_TAKING = 0.25;
/** How long a 404 that does not say why is believed: it may still be a proxy's. */
const UNEXPLAINED_MS = 5 * 60_000;

export interface ReservationsParts {
    readonly store: Store;
    readonly users: ActingUsers;
    readonly logger: Logger;
    /** Unused ones to be kept for each user. */
    readonly ahead: number;
    /** MXC URIs that the homeserver gave of late, whoever asked for them. */
    readonly uris: Unrepeated;
}

export class Reservations {
    readonly #uris: Unrepeated;
    readonly #store: Store;
    readonly #users: ActingUsers;
    readonly #logger: Logger;
    readonly #ahead: number;
    readonly #warm = new Map<string, Reservation[]>();
    readonly #refills = new PQueue({ concurrency: 4 });
    readonly #refilling = new Set<string>();
    readonly #asking = new Set<Promise<unknown>>();
    readonly #limits: UserLimits;
    readonly #closing = new Closing();
    #count = 0;
    /** Asked for ahead, and not there yet. */
    #coming = 0;
    /** By `steadyNow()`. */
    #unsupportedUntil = 0;

    constructor(parts: ReservationsParts) {
        this.#uris = parts.uris;
        this.#store = parts.store;
        this.#users = parts.users;
        this.#logger = parts.logger;
        this.#ahead = parts.ahead;
        this.#limits = new UserLimits(parts.logger);
    }

    /** Unused reservations at hand. */
    get count(): number {
        return this.#count;
    }

    /**
     * False once the server has said that it has no `/create`; asked anew after a restart, and after a while where it
     * did not say so itself.
     */
    get supported(): boolean {
        return this.#unsupportedUntil <= steadyNow();
    }

    /** Whether the server has said so itself. */
    get isWithout(): boolean {
        return this.#unsupportedUntil === Number.POSITIVE_INFINITY;
    }

    /** Takes up what an earlier run had reserved. */
    async start(): Promise<void> {
        const stale: Write[] = [];
        for await (const [key, record] of this.#store.range({ collection: RESERVATIONS })) {
            const reservation = record as unknown as Reservation;
            if (worthTaking(reservation)) this.#add(reservation);
            else stale.push({ collection: RESERVATIONS, key });
        }
        await this.#store.commit(stale);
    }

    /** Drops all that are kept ahead: the journal may be wrong about them, and an event may show one already. */
    async giveUp(): Promise<void> {
        this.#warm.clear();
        this.#count = 0;
        const dropped: Write[] = [];
        for await (const key of this.#store.keys({ collection: RESERVATIONS })) {
            dropped.push({ collection: RESERVATIONS, key });
        }
        await this.#store.commit(dropped);
        if (dropped.length > 0) this.#logger.warn("Addresses kept ahead were given up", { count: dropped.length });
    }

    /** One from those kept ahead, at once; the caller journals `takenWrite` with what it uses it for. */
    takeWarm(userId: string): Reservation | undefined {
        const warm = this.#warm.get(userId) ?? [];
        while (warm.length > 0) {
            const reservation = warm.shift();
            this.#count--;
            if (warm.length === 0) this.#warm.delete(userId);
            this.#limits.obtained(userId);
            if (reservation !== undefined && worthTaking(reservation)) return reservation;
            if (reservation !== undefined) this.#store.commit([takenWrite(reservation)]).catch(() => {});
        }
        return undefined;
    }

    /** Undoes `takeWarm`, when what it was taken for could not be journaled. */
    giveBack(reservation: Reservation): void {
        this.#add(reservation);
    }

    /** What is read before a reservation is used: where that fails, it is somebody else's. */
    async guarded<T>(reservation: Reservation, reading: Promise<T>): Promise<T> {
        return reading.catch((error: unknown) => {
            this.giveBack(reservation);
            throw error;
        });
    }

    /** Keeps one that nobody uses, in memory also where the disk refuses. Rejects as the store does. */
    async keep(reservation: Reservation): Promise<void> {
        try {
            await this.#store.commit([this.keptWrite(reservation)]);
        } finally {
            this.#add(reservation);
        }
    }

    /** The write that keeps a reservation nobody uses any more; the caller then calls `giveBack`. */
    keptWrite(reservation: Reservation): Write {
        return { collection: RESERVATIONS, key: keyOf(reservation), record: reservation as unknown as StoredRecord };
    }

    /**
     * One kept ahead, or a new one. Rejects with NOT_SUPPORTED, as `/create` fails, with the reason of `signal`, or with
     * CLOSED: what is still being given then is kept for another file.
     * @param isNeeded There is no other way: the server is asked unless it has said itself that it has no `/create`.
     */
    async obtain(userId: string, signal: AbortSignal, isNeeded = false): Promise<Obtained> {
        const warm = this.takeWarm(userId);
        if (warm !== undefined) return { reservation: warm };
        if (isNeeded ? this.isWithout : !this.supported) throw new MediaError("NOT_SUPPORTED");
        try {
            return { reservation: await this.#tracked(this.#createFor(userId, signal)) };
        } catch (error) {
            if (!(error instanceof MediaError) || !mayBeLimit(error)) throw error;
            return this.#limits.refusedToWaiting(userId, error);
        }
    }

    /** Resolves when an upload of this user has finished, or after `ms`. Rejects when `signal` aborts. */
    waitForPlace(userId: string, ms: number, signal: AbortSignal): Promise<void> {
        return this.#limits.waitForPlace(userId, ms, signal);
    }

    /** To be called when an upload of this user has finished: the homeserver counts one unused address less. */
    placeFreed(userId: string): void {
        this.#limits.placeFreed(userId);
    }

    /**
     * How long to wait before asking for this user again, in milliseconds; 0 where nothing speaks against it. Grows
     * with the time for which the user has been at its limit: a backlog that waits for it asks ever more seldom.
     */
    blockedFor(userId: string): number {
        return this.#limits.blockedFor(userId);
    }

    /** Fills up what is kept ahead for a user, in the background. */
    keepAhead(userId: string): void {
        if (!this.supported || this.#refilling.has(userId) || this.#closing.signal.aborted) return;
        if (this.#limits.isBlocked(userId)) return;
        if ((this.#warm.get(userId)?.length ?? 0) >= this.#ahead || this.#count >= MAX_AHEAD) return;
        this.#refilling.add(userId);
        void this.#refills.add(() => this.#refill(userId)).finally(() => this.#refilling.delete(userId));
    }

    async close(): Promise<void> {
        await this.#closing.begin(async () => {
            await this.#refills.onIdle();
            while (this.#asking.size > 0) await Promise.allSettled(this.#asking);
        });
    }

    async #refill(userId: string): Promise<void> {
        while ((this.#warm.get(userId)?.length ?? 0) < this.#ahead && this.#count + this.#coming < MAX_AHEAD) {
            if (this.#closing.signal.aborted) return;
            this.#coming++;
            try {
                await this.#keepAnswer(userId, this.#create(userId));
            } catch {
                return;
            } finally {
                this.#coming--;
            }
        }
    }

    /** Keeps it once it is there; rejects with what the log was told. */
    async #keepAnswer(userId: string, created: Promise<Reservation>): Promise<void> {
        try {
            await this.keep(await created);
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (mayBeLimit(error)) this.#limits.refused(userId, error);
            this.#logger.debug("No reservation could be kept ahead", { userId, code: error.code });
            throw error;
        }
    }

    /** A new one. Where `signal` aborts before it is there, the next file has it. */
    async #createFor(userId: string, signal: AbortSignal): Promise<Reservation> {
        for (const over of [signal, this.#closing.signal]) over.throwIfAborted();
        const created = this.#create(userId);
        try {
            return await unlessAborted(created, [signal]);
        } catch (error) {
            if (signal.aborted) this.#tracked(this.#keepAnswer(userId, created)).catch(() => {});
            throw error;
        }
    }

    /** Waited for when all is closed. */
    #tracked<T>(asking: Promise<T>): Promise<T> {
        this.#asking.add(asking);
        const forget = (): boolean => this.#asking.delete(asking);
        asking.then(forget, forget);
        return asking;
    }

    /** Cut off only a while after all is closed, whoever waits for it: an answer that nobody hears is a reservation lost. */
    async #create(userId: string): Promise<Reservation> {
        const signal = this.#closing.cutOff;
        const user = this.#users.get(userId);
        const check = (contentUri: string): void => this.#uris.check(contentUri, randomUUID());
        const create = (): Promise<CreatedMedia> => createMedia(user.access(), { signal, check });
        try {
            const created = await create().catch(async (error: unknown) => {
                if (!(error instanceof MediaError) || error.code !== "FORBIDDEN") throw error;
                // A ghost that the homeserver does not know yet.
                await unlessAborted(user.ensureRegistered(), [signal]);
                return create();
            });
            this.#limits.obtained(userId);
            this.#unsupportedUntil = 0;
            return { ...withBelievableEnd(created), userId, createdAt: Date.now() };
        } catch (error) {
            if (error instanceof MediaError && error.code === "NOT_SUPPORTED") {
                if (this.supported)
                    this.#logger.warn("The homeserver has no /create: files are uploaded before their messages");
                const isItsWord = error.errcode !== undefined;
                this.#unsupportedUntil = isItsWord ? Number.POSITIVE_INFINITY : steadyNow() + UNEXPLAINED_MS;
            }
            throw error;
        }
    }

    #add(reservation: Reservation): void {
        const warm = this.#warm.get(reservation.userId) ?? [];
        warm.push(reservation);
        this.#warm.set(reservation.userId, warm);
        this.#count++;
        // Somebody who waits for a place of this user's can have this one instead.
        this.#limits.wake(reservation.userId);
    }
}

/** The write that takes a reservation out of those kept ahead. */
export function takenWrite(reservation: Reservation): Write {
    return { collection: RESERVATIONS, key: keyOf(reservation) };
}

/** A job's address, which another file may have when nobody has seen it; undefined for a shared one, which is its file's. */
export function reservationOf(job: Job): Reservation | undefined {
    const { contentUri, expiresAt, presigned, uploader, createdAt } = job;
    if (contentUri === undefined || job.dedupe !== undefined) return undefined;
    return { contentUri, userId: uploader, createdAt, expiresAt, presigned };
}

/** The address that a job has left, as its end says, because nobody has seen it. */
export function leftBy(before: Job, after: Job): Reservation | undefined {
    return isFinal(after.state) && after.contentUri === undefined ? reservationOf(before) : undefined;
}

/**
 * Without an end that has passed already: the two clocks differ then, and every address would be replaced by one that
 * is no better.
 */
function withBelievableEnd({ expiresAt, ...created }: CreatedMedia): CreatedMedia {
    return expiresAt === undefined || expiresAt <= Date.now() ? created : { ...created, expiresAt };
}

/** A limit of unused addresses: 429, or matrix-media-repo's 500. A failing proxy's 5xx has no Matrix code. */
function mayBeLimit({ code, status, errcode }: MediaError): boolean {
    return code === "HOMESERVER_RATE_LIMITED" || (status === 500 && errcode !== undefined);
}

function keyOf({ userId, contentUri }: Reservation): string {
    return `${userId} ${contentUri}`;
}

function worthTaking({ createdAt, expiresAt }: Reservation): boolean {
    const end = expiresAt ?? createdAt + ASSUMED_LIFETIME_MS;
    return end - Date.now() > (end - createdAt) * WORTH_TAKING;
}
