/**
 * The content repository: reserved media IDs, and the files behind those that were filled.
 *
 * A file is received under a `.part` name, renamed when whole, then journaled: only then does it count. A connection that
 * dies leaves no `.part`, and a killed server's are removed at the next start, so an ID is always either empty or whole.
 */
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HeldRequests } from "./held-requests.ts";
import type { Journal } from "./journal.ts";
import { forbidden, limitExceeded, MatrixError, notFound } from "./matrix-error.ts";
import type { Settings } from "./options.ts";
import { PendingMedia } from "./pending-media.ts";
import { randomId } from "./random-id.ts";
import { RateLimit } from "./rate-limit.ts";
import { slowedTo } from "./slow-down.ts";

/** What an upload may be ahead of the disk: enough for writes to go out in groups, which halves their cost. */
const WRITE_AHEAD_BYTES = 1024 * 1024;

export interface StoredMedia {
    readonly size: number;
    readonly contentType: string;
    readonly filename?: string;
    readonly uploadedAt: number;
}

export interface Upload {
    readonly body: Readable;
    readonly size: number;
    readonly contentType: string;
    readonly filename: string | undefined;
}

interface Medium {
    readonly owner: string;
    readonly createdAt: number;
    readonly content?: StoredMedia;
}

export type MediaRecord =
    | { readonly kind: "media"; readonly id: string; readonly owner: string; readonly at: number }
    | { readonly kind: "content"; readonly id: string; readonly owner: string; readonly content: StoredMedia };

export class MediaStore {
    readonly #settings: Settings;
    readonly #dir: string;
    readonly #media = new Map<string, Medium>();
    readonly #pending: PendingMedia;
    readonly #createRate: RateLimit;
    readonly #uploading = new Map<string, Promise<void>>();
    /** Downloads that wait for the content of a media ID. */
    readonly held = new HeldRequests<string>();
    #journal: Journal | undefined;

    constructor(settings: Settings, dir: string) {
        this.#settings = settings;
        this.#dir = dir;
        this.#pending = new PendingMedia(settings.unusedExpirationMs);
        this.#createRate = new RateLimit(settings.createRateLimit);
    }

    /** Call when everything is restored: files that are not in the journal are a killed server's leftovers. */
    async persistTo(journal: Journal): Promise<void> {
        this.#journal = journal;
        await mkdir(this.#dir, { recursive: true });
        const orphans = (await readdir(this.#dir)).filter((name) => this.#media.get(name)?.content === undefined);
        await Promise.all(orphans.map((name) => rm(this.path(name), { force: true })));
    }

    restore(record: MediaRecord): void {
        if (record.kind === "media") this.#reserve(record.id, record.owner, record.at);
        else this.#fill(record.id, record.owner, record.content);
    }

    path(mediaId: string): string {
        return join(this.#dir, mediaId);
    }

    content(mediaId: string): StoredMedia | undefined {
        return this.#media.get(mediaId)?.content;
    }

    now(): number {
        return this.#settings.now();
    }

    pending(userId: string): number {
        return this.#pending.count(userId, this.now());
    }

    /** When an ID without content expires; undefined when there is no such ID, or it has expired. */
    expiry(mediaId: string): number | undefined {
        const medium = this.#media.get(mediaId);
        if (medium === undefined) return undefined;
        const expiry = medium.createdAt + this.#settings.unusedExpirationMs;
        return expiry < this.now() ? undefined : expiry;
    }

    /** `limited` is false for users of an appservice that is not rate limited: neither limit counts for them. */
    async create(owner: string, limited: boolean): Promise<{ id: string; expiresAt: number }> {
        const now = this.now();
        if (limited) {
            const wait = this.#createRate.take(owner, now);
            if (wait > 0) throw limitExceeded(wait);
            if (this.#pending.count(owner, now) >= this.#settings.maxPendingMedia) {
                throw limitExceeded(this.#pending.firstExpiry(owner) - now);
            }
        }
        const id = randomId(18);
        this.#reserve(id, owner, now);
        await this.#write({ kind: "media", id, owner, at: now });
        return { id, expiresAt: now + this.#settings.unusedExpirationMs };
    }

    /** Refusals of a PUT that do not depend on what it carries, in Synapse's order. */
    checkMayFill(mediaId: string, userId: string): void {
        // The same errcode as for an ID that has content: the client cannot tell them apart.
        if (this.#uploading.has(mediaId)) throw cannotOverwrite("Media ID cannot be overwritten");
        const medium = this.#media.get(mediaId);
        if (medium === undefined) throw notFound("Unknown media ID");
        if (medium.owner !== userId) throw forbidden("Only the creator of the media ID can upload to it");
        if (medium.content !== undefined) throw cannotOverwrite("Media ID already has content");
        if (this.expiry(mediaId) === undefined) throw notFound("Media ID has expired");
    }

    /** The one-step upload: an ID that nobody has seen before its content is there. */
    async add(owner: string, upload: Upload): Promise<string> {
        const id = randomId(18);
        await this.fill(id, owner, upload);
        return id;
    }

    /** Receives the content of an ID; for a reserved one `checkMayFill` was asked in the same turn of the event loop. */
    async fill(mediaId: string, owner: string, upload: Upload): Promise<void> {
        const receiving = this.#receive(mediaId, owner, upload);
        this.#uploading.set(mediaId, receiving);
        try {
            await receiving;
        } finally {
            this.#uploading.delete(mediaId);
        }
    }

    /** Resolves when no upload is under way any more and the cut ones are cleared away; end their connections first. */
    async settled(): Promise<void> {
        await Promise.allSettled(this.#uploading.values());
    }

    async #receive(mediaId: string, owner: string, { body, size, contentType, filename }: Upload): Promise<void> {
        const part = this.path(`${mediaId}.part`);
        const rate = this.#settings.bandwidthBytesPerSecond;
        try {
            const file = createWriteStream(part, { highWaterMark: WRITE_AHEAD_BYTES });
            await (rate === undefined ? pipeline(body, file) : pipeline(body, slowedTo(rate), file));
            await rename(part, this.path(mediaId));
        } catch (error) {
            await rm(part, { force: true });
            throw error;
        }
        const content = { size, contentType, uploadedAt: this.now(), ...(filename === undefined ? {} : { filename }) };
        await this.#write({ kind: "content", id: mediaId, owner, content });
        this.#fill(mediaId, owner, content);
        this.held.announce(mediaId);
    }

    #reserve(id: string, owner: string, at: number): void {
        this.#media.set(id, { owner, createdAt: at });
        this.#pending.add(owner, id, at);
    }

    #fill(id: string, owner: string, content: StoredMedia): void {
        const medium = this.#media.get(id) ?? { owner, createdAt: content.uploadedAt };
        this.#media.set(id, { ...medium, content });
        this.#pending.remove(owner, id);
    }

    async #write(record: MediaRecord): Promise<void> {
        await this.#journal?.append(JSON.stringify(record));
    }
}

const cannotOverwrite = (message: string): MatrixError => new MatrixError(409, "M_CANNOT_OVERWRITE_MEDIA", message);
