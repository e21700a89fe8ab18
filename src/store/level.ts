import { appendFile, chmod, mkdir, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Level } from "level";
import { MediaError, systemCode } from "../errors.ts";
import { CommitCount } from "./commit-count.ts";
import { GroupCommit } from "./group-commit.ts";
import { checkFolder, isCorruption, repairFolder } from "./level-damage.ts";
import { bounds, type Operation, operation, type Removal, SEPARATOR } from "./level-keys.ts";
import { RecentRecords } from "./recent-records.ts";
import { decodeRecord, encodeRecord } from "./record-codec.ts";
import type { Damage, Range, Store, StoredRecord, Write } from "./store.ts";

/**
 * The store on LevelDB.
 *
 * After a failed write (a full disk) LevelDB may hold part of a record in the buffer of its log, or refuse every further
 * write, so the next access opens it anew, which reads the log back and begins another; as long as even that fails,
 * every access rejects with STORE_WRITE_FAILED. What reading the log back brings to light of the failed write (all of it,
 * where only the sync failed) is undone before anything else: its callers were told that it is not there.
 *
 * Damage that LevelDB notices, at opening or when a record is read, is repaired after a copy was put aside, and what was
 * asked for goes on. What it does not notice is caught by each record's checksum, and by the count of the writes
 * (commit-count.ts). A read that fails otherwise, as where no more files may be opened, rejects with STORE_READ_FAILED: it
 * says nothing of what is stored, and the next one may succeed.
 */

const SCHEMA_KEY = `store${SEPARATOR}schema`;

export class LevelStore implements Store {
    readonly #directory: string;
    /** Only once it is wanted: a `Level` opens its files by itself soon after it was made. */
    #opened: Level | undefined;
    #onDamage: (damage: Damage) => void = () => {};
    readonly #commits = new GroupCommit<Write | Removal>(
        (writes) => this.#write(writes),
        (cause) => this.#writeFailed(cause),
    );
    #needsReopening = false;
    /** Puts back what was there before the write that failed. */
    #undo: Operation[] = [];
    /** The damage that a read has met. */
    #needsRepair: unknown;
    #repairs = 0;
    readonly #count = new CommitCount();
    readonly #recent = new RecentRecords();
    #reopening: Promise<void> | undefined;
    #written = 0;
    #keeping: Promise<void> | undefined;
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
        this.#recent.clear();
        try {
            await mkdir(this.#directory, { recursive: true, mode: 0o700 });
            await chmod(this.#directory, 0o700);
            await checkFolder(this.#directory);
            await this.#db.open();
        } catch (error) {
            await this.#openDespite(error);
        }
        await this.#checkSchema();
        await this.#checkCount();
        await this.#usable();
        await keepToThisUser(this.#directory);
    }

    async get(collection: string, key: string): Promise<StoredRecord | undefined> {
        const path = collection + SEPARATOR + key;
        // Synchronous: a record is small and nearly always in the cache, where a trip to another thread costs more.
        const value = await this.#reading(() => this.#recent.get(path) ?? this.#getSync(path));
        return typeof value === "string" ? this.#decode(path, value) : value;
    }

    /** Bytes, not text: classic-level 3.0.0 cuts a text key off at a character of several bytes behind a shorter key. */
    #getSync(path: string): string | undefined {
        return this.#db.getSync<Buffer, string>(Buffer.from(path), { keyEncoding: "buffer" });
    }

    async *range(range: Range): AsyncIterable<readonly [string, StoredRecord]> {
        const skip = range.collection.length + SEPARATOR.length;
        for await (const [path, value] of this.#throughDamage(range, (limits) => this.#db.iterator(limits))) {
            const record = await this.#decode(path, value);
            if (record !== undefined) yield [path.slice(skip), record];
        }
    }

    async *keys(range: Range): AsyncIterable<string> {
        const skip = range.collection.length + SEPARATOR.length;
        const read = async function* (paths: AsyncIterable<string>) {
            for await (const path of paths) yield [path, ""] as const;
        };
        for await (const [path] of this.#throughDamage(range, (limits) => read(this.#db.keys(limits))))
            yield path.slice(skip);
    }

    /** Goes on behind the last record when the reading has met damage and that is repaired, or was cut off by a reopening. */
    async *#throughDamage(
        range: Range,
        read: (limits: ReturnType<typeof bounds>) => AsyncIterable<readonly [string, string]>,
    ): AsyncIterable<readonly [string, string]> {
        const skip = range.collection.length + SEPARATOR.length;
        let { after } = range;
        for (let left = range.limit ?? Number.POSITIVE_INFINITY; left > 0; ) {
            const rest = { ...range, ...(after !== undefined && { after }), ...(left !== Infinity && { limit: left }) };
            await this.#usable();
            try {
                for await (const entry of read(bounds(rest))) {
                    after = entry[0].slice(skip);
                    left--;
                    yield entry;
                }
                return;
            } catch (error) {
                this.#meet(error);
            }
        }
    }

    async #reading<T>(read: () => T): Promise<T> {
        while (true) {
            await this.#usable();
            try {
                return read();
            } catch (error) {
                this.#meet(error);
            }
        }
    }

    /** Has the next access repair what a read has met, and throws what no repair helps. */
    #meet(error: unknown): void {
        if (systemCode(error)?.endsWith("_NOT_OPEN") === true && this.#isOpenAgain()) return;
        if (!isCorruption(error)) throw failed("STORE_READ_FAILED", error);
        if (this.#repairs >= MAX_REPAIRS) throw new MediaError("STORE_UNUSABLE", { cause: error, detail: "damaged" });
        this.#needsRepair = error;
        this.#needsReopening = true;
    }

    /** Whether a read that was cut off need only be repeated: after a reopening, or to hear that the store is closed. */
    #isOpenAgain(): boolean {
        return this.#closed || this.#needsReopening || this.#opened?.status === "open";
    }

    commit(writes: readonly Write[]): Promise<void> {
        if (this.#closed) return Promise.reject(new MediaError("CLOSED"));
        if (writes.length === 0) return Promise.resolve();
        return this.#commits.commit(writes);
    }

    async close(): Promise<void> {
        this.#closed = true;
        await this.#commits.idle();
        await this.#opened?.close();
        this.#count.close();
        await this.#keeping;
        await keepToThisUser(this.#directory);
    }

    async #write(writes: readonly (Write | Removal)[]): Promise<void> {
        if (this.#needsReopening) await this.#reopen();
        const due = writes.filter(
            (write, at) => !("damaged" in write) || this.#isStillThere(write, writes.slice(0, at)),
        );
        const operations = [...due.map(operation), this.#count.next()];
        this.#recent.writing(operations);
        try {
            await this.#batchOf(operations).write({ sync: true });
        } catch (error) {
            // LevelDB shows a batch only after it was written, so this still is what was there before.
            this.#undo = [...new Set(operations.map(({ key }) => key))].map((key) => {
                const value = this.#getSync(key);
                return value === undefined ? { type: "del", key } : { type: "put", key, value };
            });
            throw error;
        }
        this.#recent.wrote(operations);
        this.#count.advance();
        if (++this.#written % KEPT_AFTER === 0)
            this.#keeping ??= keepToThisUser(this.#directory).finally(() => {
                this.#keeping = undefined;
            });
    }

    /** A damaged record that cannot be looked at now is left to its next reader: others' writes go with this one. */
    #isStillThere({ collection, key, damaged }: Removal, before: readonly Write[]): boolean {
        if (before.some((write) => write.record !== undefined && write.collection === collection && write.key === key))
            return false;
        try {
            return this.#getSync(collection + SEPARATOR + key) === damaged;
        } catch {
            return false;
        }
    }

    #writeFailed(cause: unknown): MediaError {
        this.#needsReopening = true;
        // Met while LevelDB merged its tables: it takes no more writes until that is repaired.
        if (isCorruption(cause) && this.#repairs < MAX_REPAIRS) this.#needsRepair = cause;
        return failed("STORE_WRITE_FAILED", cause);
    }

    /** Handed over one by one: an array of them costs five times as much, in clones that the library makes of each. */
    #batchOf(operations: readonly Operation[]) {
        const batch = this.#db.batch();
        for (const operation of operations) {
            if (operation.type === "put") batch.put(operation.key, operation.value);
            else batch.del(operation.key);
        }
        return batch;
    }

    async #usable(): Promise<void> {
        if (this.#closed) throw new MediaError("CLOSED");
        if (this.#needsReopening) await this.#reopen();
    }

    #reopen(): Promise<void> {
        const reopen = async (): Promise<void> => {
            const damage = this.#needsRepair;
            // A repair may lose some of them.
            this.#recent.clear();
            await this.#db.close();
            if (damage === undefined) await this.#db.open();
            else await this.#openDespite(damage);
            await this.#db.batch(this.#undo, { sync: true });
            this.#undo = [];
            this.#needsRepair = undefined;
            this.#needsReopening = false;
            if (damage !== undefined) await this.#checkCount();
            await keepToThisUser(this.#directory);
        };
        this.#reopening ??= reopen()
            .catch((cause: unknown) => {
                throw failed("STORE_WRITE_FAILED", cause);
            })
            .finally(() => {
                this.#reopening = undefined;
            });
        return this.#reopening;
    }

    async #openDespite(error: unknown): Promise<void> {
        const cause = error instanceof Error ? (error.cause ?? error) : undefined;
        if (systemCode(cause) === "LEVEL_LOCKED") throw new MediaError("STORE_LOCKED", { cause: error });
        if (!isCorruption(error)) throw new MediaError("STORE_UNUSABLE", { cause: error });
        this.#repairs++;
        let copy: string;
        try {
            copy = await repairFolder(this.#directory);
            await this.#db.open();
        } catch (repairError) {
            throw new MediaError("STORE_UNUSABLE", { cause: repairError, detail: "damaged, and repair failed" });
        }
        const finding = cause instanceof Error ? cause.message : "LevelDB found damage";
        this.#onDamage({ finding: `opened after a repair, records may be missing: ${finding}`, copy });
    }

    async #checkCount(): Promise<void> {
        try {
            const finding = await this.#count.open(this.#db, this.#directory);
            if (finding !== undefined) this.#onDamage({ finding });
        } catch (error) {
            this.#meet(error);
        }
    }

    async #checkSchema(): Promise<void> {
        const value = await this.#reading(() => this.#getSync(SCHEMA_KEY));
        const decoded = value === undefined ? undefined : decodeRecord(SCHEMA_KEY, value);
        if (decoded === undefined || decoded.kind === "damaged") {
            await this.#db.put(SCHEMA_KEY, encodeRecord(SCHEMA_KEY, {}));
            return;
        }
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
        const line = `${JSON.stringify({ collection, key, finding, value })}\n`;
        await appendFile(copy, line, { mode: 0o600 }).catch((cause: unknown) => {
            throw failed("STORE_WRITE_FAILED", cause);
        });
        this.#onDamage({ collection, key, finding, copy });
        // Reported and copied once; a read must not stumble over it again.
        if (decoded.kind === "damaged" && !this.#closed)
            await this.#commits.commit([{ collection, key, damaged: value }]).catch(() => {});
        return undefined;
    }
}

/** Writes after which the files that came with them are kept to this user. */
const KEPT_AFTER = 512;
/** Repairs in one run: a disk that damages what it keeps is not to be repaired for ever. */
const MAX_REPAIRS = 3;

/**
 * LevelDB makes its files with mode 0644 and can be told no other, and the process's mask is the bridge's own. So those that are
 * there are changed when it is opened and closed and now and then between; the folder's mode alone keeps what is made until the next time. Never rejects, for
 * that reason: LevelDB may just have removed one, or an older one may be another user's.
 */
async function keepToThisUser(directory: string): Promise<void> {
    for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])) {
        if (entry.isFile()) await chmod(join(entry.parentPath, entry.name), 0o600).catch(() => {});
    }
}

function failed(code: "STORE_READ_FAILED" | "STORE_WRITE_FAILED", cause: unknown): MediaError {
    if (cause instanceof MediaError) return cause;
    // LevelDB's own words (IO error: No space left on device) are in the innermost cause.
    const below = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const detail = below instanceof Error ? below.message : systemCode(cause);
    return new MediaError(code, { cause, ...(detail !== undefined && { detail }) });
}
