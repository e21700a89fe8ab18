import { MediaError } from "../../src/errors.ts";
import type { Range, Store, StoredRecord, Write } from "../../src/store/store.ts";

/** What a memory store's processes leave behind: give it to the next one, and the one before is dead. */
export class Disk {
    readonly records = new Map<string, string>();
    /** Who may write. */
    owner: object | undefined;
}

/** A store for models that restart many times. It keeps the contract, which a test runs on it; a power cut takes nothing. */
export class MemoryStore implements Store {
    readonly #disk: Disk;

    constructor(disk: Disk = new Disk()) {
        this.#disk = disk;
    }

    async open(): Promise<void> {
        this.#disk.owner = this;
    }

    async get(collection: string, key: string): Promise<StoredRecord | undefined> {
        const text = this.#disk.records.get(`${collection}\0${key}`);
        return text === undefined ? undefined : (JSON.parse(text) as StoredRecord);
    }

    async *range(range: Range): AsyncIterable<readonly [string, StoredRecord]> {
        for (const [key, text] of this.#rows(range)) yield [key, JSON.parse(text) as StoredRecord];
    }

    async *keys(range: Range): AsyncIterable<string> {
        for (const [key] of this.#rows(range)) yield key;
    }

    async commit(writes: readonly Write[]): Promise<void> {
        if (this.#disk.owner !== this) throw new MediaError("CLOSED");
        for (const { collection, key, record } of writes) {
            if (record === undefined) this.#disk.records.delete(`${collection}\0${key}`);
            else this.#disk.records.set(`${collection}\0${key}`, JSON.stringify(record));
        }
    }

    async close(): Promise<void> {
        if (this.#disk.owner === this) this.#disk.owner = undefined;
    }

    #rows({ collection, prefix = "", after, before, limit }: Range): (readonly [string, string])[] {
        const root = `${collection}\0`;
        const rows: (readonly [string, string])[] = [];
        for (const [path, text] of this.#disk.records) {
            if (!path.startsWith(root + prefix)) continue;
            const key = path.slice(root.length);
            if (after !== undefined && compare(key, after) <= 0) continue;
            if (before !== undefined && compare(key, before) >= 0) continue;
            rows.push([key, text]);
        }
        return rows.toSorted(([one], [other]) => compare(one, other)).slice(0, limit);
    }
}

function compare(one: string, other: string): number {
    return Buffer.compare(Buffer.from(one), Buffer.from(other));
}
