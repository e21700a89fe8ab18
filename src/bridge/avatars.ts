import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { asMediaError, MediaError } from "../errors.ts";
import { unlessAborted } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import type { JsonObject } from "../matrix/answer.ts";
import type { ActingUsers } from "../matrix/client.ts";
import { setAvatarUrl } from "../matrix/profile-endpoints.ts";
import { setRoomState } from "../matrix/room-endpoints.ts";
import type { Unrepeated } from "../matrix/unrepeated.ts";
import type { Store } from "../store/store.ts";
import { KeyedLocks } from "../uploads/keyed-locks.ts";
import { isJournalTrouble, retryDelay } from "../uploads/retry.ts";
import type { HomeserverRequests } from "./homeserver-requests.ts";
import { enterRoom, WAYS_INTO_A_ROOM } from "./membership.ts";
import type { JobInfo, MediaSource, PendingUpload } from "./message.ts";
import type { AvatarOptions, UploadOptions } from "./message-check.ts";
import { hashOf } from "./records.ts";

/**
 * Pictures of users and rooms. A bridge sets them again and again, at every start and with every member list, so the
 * file goes through what messages share, and the homeserver is asked only for what this process has not set
 * itself already: a changed profile is an event in every room of the user's.
 *
 * The file is there before it becomes the picture. What is to become one is journaled before its upload is, one
 * for each user or room, and stays so until it is set or the caller was told why not: after a crash the start goes on
 * with it, where there is an upload to go on with.
 */
export interface AvatarsParts {
    readonly store: Store;
    readonly users: ActingUsers;
    readonly logger: Logger;
    readonly upload: (
        source: MediaSource,
        options: UploadOptions,
        announce: (jobId: string, contentUri?: string) => Promise<void>,
    ) => Promise<PendingUpload>;
    readonly endOf: (jobId: string) => Promise<JobInfo>;
    readonly answers: Unrepeated;
    readonly requests: HomeserverRequests;
    readonly closing: AbortSignal;
}

/** Pictures that are not set yet, by whose they are. */
export const AVATARS = "avatar";

interface PendingAvatar {
    readonly kind: "user" | "room";
    /** Of the user or room. */
    readonly id: string;
    readonly sender: string;
    readonly jobId: string;
    /** Where the file was there already. */
    readonly contentUri?: string | undefined;
}

type Picture = Pick<JobInfo, "contentUri" | "mimetype" | "size">;

/** Pictures that this process knows to be set. */
const MAX_KNOWN = 10_000;

export class Avatars {
    readonly #parts: AvatarsParts;
    readonly #known = new Map<string, string>();
    /** The calls for one user or room take effect in their order. */
    readonly #locks = new KeyedLocks();
    readonly #underWay = new Set<Promise<unknown>>();
    /** Of the newest call for each user or room; aborts with the next one, which waits for it. */
    readonly #newest = new Map<string, AbortController>();

    constructor(parts: AvatarsParts) {
        this.#parts = parts;
    }

    /** Goes on with what an earlier run left; each before any new call for the same user or room. */
    async start(): Promise<void> {
        for await (const [, record] of this.#parts.store.range({ collection: AVATARS })) {
            const pending = record as unknown as PendingAvatar;
            void this.#hold(pending.id, (overtaken) => this.#resume(pending, overtaken));
        }
    }

    /** Resolves when nothing goes on any more; to be called when `closing` has aborted. */
    async quiet(): Promise<void> {
        await Promise.allSettled(this.#underWay);
    }

    /** Resolves with the MXC URI when it is the user's picture. */
    ofUser(userId: string, source: MediaSource, options: AvatarOptions): Promise<string> {
        const picture = { kind: "user", id: userId, sender: userId } as const;
        return this.#hold(userId, (overtaken) => this.#bring(picture, source, options, overtaken));
    }

    /** Resolves with the MXC URI when it is the room's picture. */
    ofRoom(roomId: string, sender: string, source: MediaSource, options: AvatarOptions): Promise<string> {
        const picture = { kind: "room", id: roomId, sender } as const;
        return this.#hold(roomId, (overtaken) => this.#bring(picture, source, options, overtaken));
    }

    /** Runs `task` after what was called for the same user or room before; known to `quiet()` from here on. */
    #hold<T>(id: string, task: (overtaken: AbortSignal) => Promise<T>): Promise<T> {
        this.#newest.get(id)?.abort();
        const own = new AbortController();
        this.#newest.set(id, own);
        const working = this.#locks.hold([id], given(task, own.signal));
        const over = (): void => {
            this.#underWay.delete(working);
            if (this.#newest.get(id) === own) this.#newest.delete(id);
        };
        this.#underWay.add(working);
        working.then(over, over);
        return working;
    }

    /** Not async, like what it calls: a frame that waits for the file would keep its bytes in memory. */
    #bring(
        of: Pick<PendingAvatar, "kind" | "id" | "sender">,
        source: MediaSource,
        options: AvatarOptions,
        overtaken: AbortSignal,
    ): Promise<string> {
        const dedupeKey = options.dedupeKey ?? keyOf(source);
        const given = { ...options, userId: of.sender, ...(dedupeKey !== undefined && { dedupeKey }) };
        const { announce, settle } = this.#announced(of, overtaken);
        return settle(this.#parts.upload(source, given, announce));
    }

    #announced(of: Pick<PendingAvatar, "kind" | "id" | "sender">, overtaken: AbortSignal) {
        const { store, closing } = this.#parts;
        let pending: PendingAvatar | undefined;
        const announce = async (jobId: string, contentUri?: string): Promise<void> => {
            if (contentUri !== undefined && this.#known.get(of.id) === contentUri) return;
            pending = { ...of, jobId, contentUri };
            await store.commit([{ collection: AVATARS, key: of.id, record: { ...pending } }]);
        };
        const settle = async (uploading: Promise<PendingUpload>): Promise<string> => {
            try {
                const { contentUri, done } = await uploading;
                if (pending === undefined || this.#known.get(of.id) === contentUri) {
                    if (pending !== undefined) await this.#forget(pending);
                    return contentUri;
                }
                return await this.#settle(pending, await done, overtaken);
            } catch (error) {
                // The caller hears of it, and may want another picture by now. On closing the next start goes on.
                if (pending !== undefined && !closing.aborted) await this.#forget(pending);
                throw error;
            }
        };
        return { announce, settle };
    }

    /** Never rejects. */
    async #resume(pending: PendingAvatar, overtaken: AbortSignal): Promise<void> {
        const { closing, logger } = this.#parts;
        let picture: Picture | undefined;
        for (let attempt = 0; !closing.aborted; attempt++) {
            try {
                picture ??= await this.#endOf(pending);
                await this.#settle(pending, picture, overtaken);
                return;
            } catch (thrown) {
                const error = asMediaError(thrown);
                if (closing.aborted) return;
                const { kind, id } = pending;
                logger.warn("A picture of an earlier run could not be set", { kind, id, code: error.code });
                // An upload that has failed stays so, whatever its error would say of another try; a disk recovers.
                if (!isJournalTrouble(error.code)) return this.#forget(pending).catch(() => {});
                await sleep(retryDelay(error, attempt), undefined, { signal: closing }).catch(() => {});
            }
        }
    }

    /** A file that was there already needs no job, and its job may be forgotten. */
    #endOf({ jobId, contentUri }: PendingAvatar): Promise<Picture> {
        return this.#parts.endOf(jobId).catch((error: unknown): Picture => {
            if (contentUri === undefined || asMediaError(error).code !== "JOB_UNKNOWN") throw error;
            return { contentUri, mimetype: undefined, size: undefined };
        });
    }

    async #settle(pending: PendingAvatar, picture: Picture, overtaken: AbortSignal): Promise<string> {
        const { id } = pending;
        const { contentUri, mimetype, size } = picture;
        if (contentUri === undefined) throw new MediaError("INTERNAL", { detail: "a picture without an address" });
        const info = { ...(mimetype !== undefined && { mimetype }), ...(size !== undefined && { size }) };
        const isUser = pending.kind === "user";
        const set = () => (isUser ? this.#setUser(id, contentUri) : this.#setRoom(pending, { url: contentUri, info }));
        // What an SDK does about it hears no signal.
        await unlessAborted(this.#repeated(pending, set, overtaken), [this.#parts.closing]);
        this.#known.delete(id);
        this.#known.set(id, contentUri);
        const [oldest] = this.#known.keys();
        if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
        await this.#forget(pending);
        return contentUri;
    }

    /** Repeats `set` while its error passes and nobody waits for this picture to have been. */
    async #repeated(
        { kind, id, sender }: PendingAvatar,
        set: () => Promise<void>,
        overtaken: AbortSignal,
    ): Promise<void> {
        const { requests } = this.#parts;
        const attempt = async (): Promise<MediaError | undefined> => {
            try {
                // In no place of the rooms' requests: an SDK may take its time to register a ghost.
                await set();
                return undefined;
            } catch (error) {
                if (overtaken.aborted) return asMediaError(error);
                throw error;
            }
        };
        const error = await requests.untilAnswered(
            { sender, ...(kind === "room" && { roomId: id }) },
            attempt,
            overtaken,
        );
        if (error !== undefined) throw error;
    }

    async #setUser(userId: string, contentUri: string): Promise<void> {
        const { users, closing } = this.#parts;
        const user = users.get(userId);
        await setAvatarUrl(user.access(), contentUri, closing).catch(async (error: unknown) => {
            if (asMediaError(error).code !== "FORBIDDEN") throw error;
            // A ghost that the homeserver does not know yet.
            await user.ensureRegistered();
            await setAvatarUrl(user.access(), contentUri, closing);
        });
    }

    async #setRoom({ id: roomId, sender }: PendingAvatar, content: JsonObject): Promise<void> {
        const { users, closing, logger, answers } = this.#parts;
        for (let way = 0; ; way++) {
            try {
                const access = users.get(sender).access();
                const event = { roomId, eventType: "m.room.avatar", content };
                // Where the same is set again, a homeserver may say that it is the same event.
                const to = `picture ${roomId} ${String(content["url"])}`;
                await setRoomState(access, event, { signal: closing, check: (id) => answers.check(id, to) });
                return;
            } catch (error) {
                if (asMediaError(error).code !== "FORBIDDEN" || way === WAYS_INTO_A_ROOM) throw error;
                const barred = await enterRoom(users, { sender, roomId }, way, logger, closing);
                if (barred !== undefined) throw barred;
            }
        }
    }

    #forget({ id }: PendingAvatar): Promise<void> {
        return this.#parts.store.commit([{ collection: AVATARS, key: id }]);
    }
}

/** By itself, so that what is to be done when the task is over does not keep the task, and with it the bytes that it was given. */
function given<T>(task: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): () => Promise<T> {
    return () => task(signal);
}

/** What names a file by itself. A path does not: what lies there may change; and a stream can be read but once. */
function keyOf(source: MediaSource): string | undefined {
    switch (source.kind) {
        case "http":
            return `avatar ${hashOf([source.kind, source.url])}`;
        case "connector":
            return `avatar ${hashOf([source.kind, source.connector, source.ref])}`;
        case "buffer":
            return `avatar ${hashOf([source.kind, createHash("sha256").update(source.data).digest("hex")])}`;
        case "file":
        case "stream":
            return undefined;
    }
}
