import { encodeRecord } from "./record-codec.ts";
import type { Range, Write } from "./store.ts";

/** How collections and keys stand in LevelDB's one range of keys. */

/** Parts a collection from a key; sorts below every character a collection may have. */
export const SEPARATOR = "\u0000";

export type Operation =
    | { readonly type: "del"; readonly key: string }
    | { readonly type: "put"; readonly key: string; readonly value: string };

/** Takes a damaged record out, unless another one has been written under its key since it was read. */
export interface Removal extends Write {
    /** The value that was read. */
    readonly damaged: string;
}

export function operation({ collection, key, record }: Write): Operation {
    const path = collection + SEPARATOR + key;
    return record === undefined
        ? { type: "del", key: path }
        : { type: "put", key: path, value: encodeRecord(path, record) };
}

export function bounds({ collection, prefix = "", after, before, limit }: Range) {
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
