import { createHash } from "node:crypto";

/** A file of 200 B to 12 kB that follows from its name alone. */
export function fileOf(name: string): Buffer {
    const seed = createHash("sha256").update(name).digest();
    const bytes = Buffer.alloc(200 + (seed.readUInt32LE(0) % 12_000), seed);
    // Else one in a hundred looks like a page.
    bytes[0] = 0;
    return bytes;
}
