import { createCipheriv, createHash } from "node:crypto";
import type { ByteRange } from "./byte-range.ts";

/**
 * Large files that are stored nowhere. The bytes are the key stream of AES-256 in counter mode: any part of a file of
 * any size can be made on its own, at gigabytes a second, and the same seed gives the same bytes on every machine.
 */

const BLOCK_BYTES = 16;
const ZEROS = Buffer.alloc(64 * 1024);

/** The bytes `range.start` up to and without `range.end` of the file that belongs to `seed`. */
export function* generatedBytes(seed: string, { start, end }: ByteRange): Generator<Buffer> {
    const key = createHash("sha256").update(seed).digest();
    const counter = Buffer.alloc(BLOCK_BYTES);
    counter.writeBigUInt64BE(BigInt(Math.floor(start / BLOCK_BYTES)), 8);
    const cipher = createCipheriv("aes-256-ctr", key, counter);
    // The part of the first block that lies before the range.
    cipher.update(ZEROS.subarray(0, start % BLOCK_BYTES));
    for (let at = start; at < end; at += ZEROS.length) {
        yield cipher.update(ZEROS.subarray(0, Math.min(ZEROS.length, end - at)));
    }
}
