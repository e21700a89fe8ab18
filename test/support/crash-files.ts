import { createHash } from "node:crypto";

/** A file of 1 to 257 kB that follows from its name alone, so that every process knows it. */
export function fileOf(name: string): Buffer {
    const seed = createHash("sha256").update(name).digest();
    const size = 1000 + (seed.readUInt32LE(0) % 256_000);
    return Buffer.alloc(size, seed);
}
