import { createHash } from "node:crypto";
import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Access, ActingUsers } from "../matrix/client.ts";
import { setAvatarUrl } from "../matrix/profile-endpoints.ts";
import { setRoomState } from "../matrix/room-endpoints.ts";
import { KeyedLocks } from "../uploads/keyed-locks.ts";
import { enterRoom, WAYS_INTO_A_ROOM } from "./membership.ts";
import type { JobInfo, MediaSource, PendingUpload } from "./message.ts";
import type { AvatarOptions, UploadOptions } from "./message-check.ts";
import { hashOf } from "./records.ts";

/**
 * Pictures of users and rooms. A bridge sets them again and again, at every start and with every member list, so the
 * file goes through what messages share, and the homeserver is asked only for what this process has not set
 * itself already: a changed profile is an event in every room of the user's.
 *
 * The file is there before it becomes the picture. Only the upload is journaled: what a crash cuts off is for the
 * caller to ask for again, which then costs no second transfer.
 */
export interface AvatarsParts {
    readonly users: ActingUsers;
    readonly logger: Logger;
    readonly upload: (source: MediaSource, options: UploadOptions) => Promise<PendingUpload>;
    readonly closing: AbortSignal;
}

/** Pictures that this process knows to be set. */
const MAX_KNOWN = 10_000;

export class Avatars {
    readonly #parts: AvatarsParts;
    readonly #known = new Map<string, string>();
    /** The calls for one user or room take effect in their order. */
    readonly #locks = new KeyedLocks();

    constructor(parts: AvatarsParts) {
        this.#parts = parts;
    }

    /** Resolves with the MXC URI when it is the user's picture. */
    ofUser(userId: string, source: MediaSource, options: AvatarOptions): Promise<string> {
        const { users, closing } = this.#parts;
        return this.#locks.hold([userId], async () => {
            const { contentUri } = await this.#uploaded(source, { ...options, userId });
            return this.#once(userId, contentUri, async () => {
                const user = users.get(userId);
                await setAvatarUrl(user.access(), contentUri, closing).catch(async (error: unknown) => {
                    if (asMediaError(error).code !== "FORBIDDEN") throw error;
                    // A ghost that the homeserver does not know yet.
                    await user.ensureRegistered();
                    await setAvatarUrl(user.access(), contentUri, closing);
                });
            });
        });
    }

    /** Resolves with the MXC URI when it is the room's picture. */
    ofRoom(roomId: string, sender: string, source: MediaSource, options: AvatarOptions): Promise<string> {
        const { users, closing, logger } = this.#parts;
        return this.#locks.hold([roomId], async () => {
            const { contentUri, mimetype, size } = await this.#uploaded(source, { ...options, userId: sender });
            const info = { ...(mimetype !== undefined && { mimetype }), ...(size !== undefined && { size }) };
            const content = { url: contentUri, info };
            const set = (access: Access) =>
                setRoomState(access, { roomId, eventType: "m.room.avatar", content }, closing);
            return this.#once(roomId, contentUri, async () => {
                for (let way = 0; ; way++) {
                    try {
                        return await set(users.get(sender).access());
                    } catch (error) {
                        if (asMediaError(error).code !== "FORBIDDEN" || way === WAYS_INTO_A_ROOM) throw error;
                        const barred = await enterRoom(users, { sender, roomId }, way, logger, closing);
                        if (barred !== undefined) throw barred;
                    }
                }
            });
        });
    }

    async #uploaded(source: MediaSource, options: UploadOptions): Promise<JobInfo & { readonly contentUri: string }> {
        const dedupeKey = options.dedupeKey ?? keyOf(source);
        const { contentUri, done } = await this.#parts.upload(source, {
            ...options,
            ...(dedupeKey !== undefined && { dedupeKey }),
        });
        const info = await done;
        return { ...info, contentUri: info.contentUri ?? contentUri };
    }

    async #once(id: string, contentUri: string, set: () => Promise<void>): Promise<string> {
        if (this.#known.get(id) === contentUri) return contentUri;
        await set();
        this.#known.delete(id);
        this.#known.set(id, contentUri);
        const [oldest] = this.#known.keys();
        if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
        return contentUri;
    }
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
