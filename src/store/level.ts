import { appendFile, chmod, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ClassicLevel } from "classic-level";
import { Level } from "level";
import { MediaError, systemCode } from "../errors.ts";
import { copyAside } from "./damaged-copy.ts";
import { decodeRecord, encodeRecord } from "./record-codec.ts";
import type { Damage, Range, Store, StoredRecord, Write } from "./store.ts";

/**
 * The store on LevelDB.
 *
 * One commit at a time is under way; those that arrive meanwhile are written together in the next one, so that a
 * synced write is paid once by all of them (group commit), and the order of the calls is the order on disk.
 *
 * After a failed write (a full disk) LevelDB may hold part of a record in the buffer of its log, or refuse every further
 * write, so the next access opens it anew, which reads the log back and begins another; as long as even that fails,
 * every access rejects with STORE_WRITE_FAILED. What reading the log back brings to light of the failed write (all of it,
 * where only the sync failed) is undone before anything else: its callers were told that it is not there. Damage that LevelDB notices at opening is repaired after a copy was put aside; damage that it does not
 * notice is caught by each record's checksum when it is read.
 */

/** Parts a collection from a key; sorts below every character a collection may have. */
const SEPARATOR = "\u0000";
const SCHEMA_KEY = `store${SEPARATOR}schema`;

interface Waiting {
    readonly writes: readonly Write[];
    readonly resolve: () => void;
    readonly reject: (error: MediaError) => void;
}

export class LevelStore implements Store {
    readonly #directory: string;
    /** Only once it is wanted: a `Level` opens its files by itself soon after it was made. */
    #opened: Level | undefined;
    #onDamage: (damage: Damage) => void = () => {};
    #waiting: Waiting[] = [];
    #flushing: Promise<void> | undefined;
    #needsReopening = false;
    /** Puts back what was there before the write that failed. */
    #undo: Operation[] = [];
    #reopening: Promise<void> | undefined;
    #closed = false;

    /** @param directory Made for this user only, also one that is there: records may hold presigned addresses and headers. */
    constructor(directory: string) {
        this.#directory = directory;
    }

    get #db(): Level {
        this.#opened ??= new Level(this.#directory);
        return this.#opened;
    }

    async open(onDamage: (damage: Damage) => void): Promise<void> {
        this.#onDamage = onDamage;
        this.#closed = false;
        try {
            await mkdir(this.#directory, { recursive: true, mode: 0o700 });
            await chmod(this.#directory, 0o700);
            await this.#db.open();
        } catch (error) {
            await this.#openDespite(error);
        }
        await this.#checkSchema();
    }

    async get(collection: string, key: string): Promise<StoredRecord | undefined> {
        const path = collection + SEPARATOR + key;
        await this.#usable();
        // Synchronous: a record is small and nearly always in the cache, where a trip to another thread costs more.
        const value = this.#db.getSync(path);
        return value === undefined ? undefined : this.#decode(path, value);
    }

    async *range(range: Range): AsyncIterable<readonly [string, StoredRecord]> {
        const skip = range.collection.length + SEPARATOR.length;
        await this.#usable();
        for await (const [path, value] of this.#db.iterator(bounds(range))) {
            const record = await this.#decode(path, value);
            if (record !== undefined) yield [path.slice(skip), record];
        }
    }

    async *keys(range: Range): AsyncIterable<string> {
        const skip = range.collection.length + SEPARATOR.length;
        await this.#usable();
        for await (const path of this.#db.keys(bounds(range))) yield path.slice(skip);
    }

    commit(writes: readonly Write[]): Promise<void> {
        if (this.#closed) return Promise.reject(new MediaError("CLOSED"));
        if (writes.length === 0) return Promise.resolve();
        return new Promise((resolve, reject) => {
            this.#waiting.push({ writes, resolve, reject });
            this.#flushing ??= this.#flush();
        });
    }

    async close(): Promise<void> {
        this.#closed = true;
        await this.#flushing;
        await this.#opened?.close();
    }

    async #flush(): Promise<void> {
        // One turn of the loop gathers what is committed side by side.
        await Promise.resolve();
        while (this.#waiting.length > 0) {
            const group = this.#waiting;
            this.#waiting = [];
            try {
                await this.#write(group);
                for (const { resolve } of group) resolve();
            } catch (cause) {
                this.#needsReopening = true;
                for (const { reject } of group) reject(writeFailed(cause));
            }
        }
        this.#flushing = undefined;
    }

    async #write(group: readonly Waiting[]): Promise<void> {
        if (this.#needsReopening) await this.#reopen();
        const operations = group.flatMap(({ writes }) => writes.map(operation));
        try {
            await this.#db.batch(operations, { sync: true });
        } catch (error) {
            // LevelDB shows a batch only after it was written, so this still is what was there before.
            this.#undo = [...new Set(operations.map(({ key }) => key))].map((key) => {
                const value = this.#db.getSync(key);
                return value === undefined ? { type: "del", key } : { type: "put", key, value };
            });
            throw error;
        }
    }

    async #usable(): Promise<void> {
        if (this.#closed) throw new MediaError("CLOSED");
        if (this.#needsReopening) await this.#reopen();
    }

    #reopen(): Promise<void> {
        const reopen = async (): Promise<void> => {
            await this.#db.close();
            await this.#db.open();
            await this.#db.batch(this.#undo, { sync: true });
            this.#undo = [];
            this.#needsReopening = false;
        };
        this.#reopening ??= reopen()
            .catch((cause: unknown) => {
                throw writeFailed(cause);
            })
            .finally(() => {
                this.#reopening = undefined;
            });
        return this.#reopening;
    }

    async #openDespite(error: unknown): Promise<void> {
        const cause = error instanceof Error ? error.cause : undefined;
        if (systemCode(cause) === "LEVEL_LOCKED") throw new MediaError("STORE_LOCKED", { cause: error });
        if (systemCode(cause) !== "LEVEL_CORRUPTION") throw new MediaError("STORE_UNUSABLE", { cause: error });
        let copy: string;
        try {
            copy = await copyAside(this.#directory);
            await ClassicLevel.repair(this.#directory);
            await this.#db.open();
        } catch (repairError) {
            throw new MediaError("STORE_UNUSABLE", { cause: repairError, detail: "damaged, and repair failed" });
        }
        const finding = cause instanceof Error ? cause.message : "LevelDB found damage";
        this.#onDamage({ finding: `opened after a repair, records may be missing: ${finding}`, copy });
    }

    async #checkSchema(): Promise<void> {
        const value = await this.#db.get(SCHEMA_KEY);
        if (value === undefined) {
            await this.#db.put(SCHEMA_KEY, encodeRecord(SCHEMA_KEY, {}));
            return;
        }
        const decoded = decodeRecord(SCHEMA_KEY, value);
        if (decoded.kind !== "newer") return;
        await this.#db.close();
        throw new MediaError("STORE_NEWER_SCHEMA", { detail: `schema ${decoded.version}` });
    }

    async #decode(path: string, value: string): Promise<StoredRecord | undefined> {
        const decoded = decodeRecord(path, value);
        if (decoded.kind === "sound") return decoded.record;
        const [collection = "", key = ""] = path.split(SEPARATOR);
        const copy = join(dirname(this.#directory), "damaged-records.jsonl");
        const finding = decoded.kind === "newer" ? `of newer schema ${decoded.version}` : decoded.finding;
        await appendFile(copy, `${JSON.stringify({ collection, key, finding, value })}\n`, { mode: 0o600 });
        this.#onDamage({ collection, key, finding, copy });
        // Reported and copied once; a read must not stumble over it again.
        if (decoded.kind === "damaged") await this.commit([{ collection, key }]).catch(() => {});
        return undefined;
    }
}

function writeFailed(cause: unknown): MediaError {
    if (cause instanceof MediaError) return cause;
    // LevelDB's own words (IO error: No space left on device) are in the innermost cause.
    const below = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const detail = below instanceof Error ? below.message : systemCode(cause);
    return new MediaError("STORE_WRITE_FAILED", { cause, ...(detail !== undefined && { detail }) });
}

type Operation =
    | { readonly type: "del"; readonly key: string }
    | { readonly type: "put"; readonly key: string; readonly value: string };

function operation({ collection, key, record }: Write): Operation {
    const path = collection + SEPARATOR + key;
    return record === undefined
        ? { type: "del", key: path }
        : { type: "put", key: path, value: encodeRecord(path, record) };
}

function bounds({ collection, prefix = "", after, before, limit }: Range) {
    const root = collection + SEPARATOR;
    const start = root + prefix;
    // No key begins with U+10FFFF, so it closes the range of every key with the prefix.
    const end = `${start}\u{10FFFF}`;
    const lower = after !== undefined && sortsBefore(start, root + after) ? { gt: root + after } : { gte: start };
    const upper = before !== undefined && sortsBefore(root + before, end) ? root + before : end;
    return { ...lower, lt: upper, ...(limit !== undefined && { limit }) };
}

/** In LevelDB's order, by UTF-8 bytes; JavaScript compares by UTF-16 units. */
function sortsBefore(one: string, other: string): boolean {
    return Buffer.compare(Buffer.from(one), Buffer.from(other)) <= 0;
}
