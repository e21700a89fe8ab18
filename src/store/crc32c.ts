import { endianness } from "node:os";

/** CRC-32C (Castagnoli), which LevelDB uses; zlib has only the other one. By tables, eight bytes a step. */
const [T0, T1, T2, T3, T4, T5, T6, T7] = tables();
const IS_LITTLE = endianness() === "LE";

export function crc32c(bytes: Uint8Array, from: number, to: number): number {
    const unaligned = (4 - ((bytes.byteOffset + from) % 4)) % 4;
    const start = Math.min(to, from + unaligned);
    const pairs = IS_LITTLE ? (to - start) >> 3 : 0;
    let crc = byBytes(-1, bytes, from, start);
    const words = pairs === 0 ? NOTHING : new Int32Array(bytes.buffer, bytes.byteOffset + start, 2 * pairs);
    for (let index = 0; index < words.length; index += 2) {
        const low = crc ^ (words[index] as number);
        const high = words[index + 1] as number;
        crc =
            (T7[low & 0xff] as number) ^
            (T6[(low >>> 8) & 0xff] as number) ^
            (T5[(low >>> 16) & 0xff] as number) ^
            (T4[low >>> 24] as number) ^
            (T3[high & 0xff] as number) ^
            (T2[(high >>> 8) & 0xff] as number) ^
            (T1[(high >>> 16) & 0xff] as number) ^
            (T0[high >>> 24] as number);
    }
    return ~byBytes(crc, bytes, start + 8 * pairs, to) >>> 0;
}

const NOTHING = new Int32Array(0);

function byBytes(before: number, bytes: Uint8Array, from: number, to: number): number {
    let crc = before;
    for (let at = from; at < to; at++) crc = (T0[(crc ^ (bytes[at] as number)) & 0xff] as number) ^ (crc >>> 8);
    return crc;
}

type Table = Int32Array;

function tables(): readonly [Table, Table, Table, Table, Table, Table, Table, Table] {
    const table = (): Table => new Int32Array(256);
    const made = [table(), table(), table(), table(), table(), table(), table(), table()] as const;
    const [first, ...others] = made;
    for (let byte = 0; byte < 256; byte++) {
        let crc = byte;
        for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
        first[byte] = crc;
    }
    for (let byte = 0; byte < 256; byte++) {
        let crc = first[byte] as number;
        for (const other of others) {
            crc = (first[crc & 0xff] as number) ^ (crc >>> 8);
            other[byte] = crc;
        }
    }
    return made;
}
