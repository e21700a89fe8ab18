import { crc32 } from "node:zlib";
import type { StoredRecord } from "./store.ts";

/**
 * How a record looks on disk: `<schema version> <crc32 of key and body, hex> <JSON>`. LevelDB can return garbled
 * values without an error, so every record proves itself, and the key is part of the proof: a sound record under a
 * wrong key is damage too.
 */
export const SCHEMA_VERSION = 1;

/** Ends where the JSON begins: a pattern that went through the whole of it would cost as much as parsing it. */
const HEAD = /^(\d{1,6}) ([0-9a-f]{8}) (?=\{)/;

export type Decoded =
    | { readonly kind: "sound"; readonly record: StoredRecord }
    | { readonly kind: "newer"; readonly version: number }
    | { readonly kind: "damaged"; readonly finding: string };

export function encodeRecord(key: string, record: StoredRecord, version = SCHEMA_VERSION): string {
    const body = JSON.stringify(record);
    return `${version} ${checksum(key, body)} ${body}`;
}

export function decodeRecord(key: string, value: string): Decoded {
    const [head = "", version, sum] = HEAD.exec(value) ?? [];
    if (version === undefined || !value.endsWith("}")) return { kind: "damaged", finding: "not a record" };
    const body = value.slice(head.length);
    if (checksum(key, body) !== sum) return { kind: "damaged", finding: "checksum does not match" };
    if (Number(version) > SCHEMA_VERSION) return { kind: "newer", version: Number(version) };
    return { kind: "sound", record: JSON.parse(body) as StoredRecord };
}

function checksum(key: string, body: string): string {
    return crc32(body, crc32(key)).toString(16).padStart(8, "0");
}
