/**
 * What survives a crash.
 *
 * A store keeps records (JSON objects) under a collection and a key, in the order of their keys. The contract, which
 * `storeContract` in `matrix-bridge-media/testing` checks:
 * - `commit` is atomic and durable: when it resolves, all its writes survive `kill -9` and a power cut; when it
 *   rejects, none of them is visible. Commits take effect in the order of the calls, also when not awaited.
 * - a record that cannot be read back as it was written is never returned: it is left out and reported.
 * - one process at a time; `open` in a second one rejects with STORE_LOCKED.
 */

export type StoredRecord = { readonly [key: string]: unknown };

/** One change: `record` is put, or the key deleted where it is undefined. */
export interface Write {
    readonly collection: string;
    /** Any string without U+0000, at most 2,048 bytes in UTF-8. */
    readonly key: string;
    readonly record?: StoredRecord | undefined;
}

/** A part of a collection; bounds are compared by UTF-8 bytes. */
export interface Range {
    readonly collection: string;
    /** Only keys that begin so. */
    readonly prefix?: string;
    /** Only keys strictly after this one. */
    readonly after?: string;
    /** Only keys strictly before this one. */
    readonly before?: string;
    readonly limit?: number;
}

/** Something that was lost: a whole store that had to be repaired (no key), or one record. */
export interface Damage {
    readonly collection?: string;
    readonly key?: string;
    /** What was found, for people. */
    readonly finding: string;
    /** Where a copy of what was damaged lies. */
    readonly copy?: string;
}

export interface Store {
    /** Opens or creates it. Rejects with STORE_LOCKED, STORE_NEWER_SCHEMA, STORE_UNUSABLE or STORE_READ_FAILED. */
    open(onDamage: (damage: Damage) => void): Promise<void>;
    /** Rejects, as the two below, with STORE_READ_FAILED when the disk does not give what there is. */
    get(collection: string, key: string): Promise<StoredRecord | undefined>;
    /** Streams a range in the order of its keys, as the store was when the iteration began. */
    range(range: Range): AsyncIterable<readonly [key: string, record: StoredRecord]>;
    /** Like `range`, without reading the records. */
    keys(range: Range): AsyncIterable<string>;
    /** Rejects with STORE_WRITE_FAILED when the disk does not take it. */
    commit(writes: readonly Write[]): Promise<void>;
    /** Waits for what was committed, then releases the files. */
    close(): Promise<void>;
}
