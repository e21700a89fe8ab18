import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32c } from "./crc32c.ts";
import { decompressed } from "./snappy.ts";

/**
 * Checks LevelDB's tables before LevelDB sees them. It would read a garbled block without a word, and ends the whole
 * process when the keys in it are out of order, also while it repairs. So a block whose checksum does not match is
 * taken out of its table's index beforehand; the others stay as they are.
 *
 * The format (leveldb, doc/table_format.md): data blocks, meta blocks, an index of the data blocks, and a footer that
 * says where index and meta blocks are. Behind each block stand one byte for its compression and a masked CRC-32C.
 */
export interface TableDamage {
    readonly name: string;
    readonly finding: string;
    /** The table without what is damaged; undefined where nothing of it can be used. */
    readonly mended: Buffer | undefined;
}

const FOOTER = 48;
const TRAILER = 5;
const MAGIC = Buffer.from("57fb808b247547db", "hex");

/** The damaged tables of a database that is not open. */
export async function damagedTables(directory: string): Promise<TableDamage[]> {
    const found: TableDamage[] = [];
    for (const name of await readdir(directory)) {
        if (!/^\d+\.(ldb|sst)$/.test(name)) continue;
        const checked = checkTable(await readFile(join(directory, name)));
        if (checked !== undefined) found.push({ name, ...checked });
    }
    return found;
}

/** Puts the mended tables in place; whoever calls this has a copy of what was there. */
export async function mendTables(directory: string, damages: readonly TableDamage[]): Promise<void> {
    for (const { name, mended } of damages) {
        const path = join(directory, name);
        if (mended === undefined) {
            await rm(path);
            continue;
        }
        await writeFile(`${path}.mended`, mended, { flush: true });
        await rename(`${path}.mended`, path);
    }
}

/**
 * Undefined for a sound table, and for one without a footer: that may be one which a crash left unfinished and nothing
 * refers to. Where it is needed after all, LevelDB itself says so.
 */
export function checkTable(table: Buffer): Omit<TableDamage, "name"> | undefined {
    const footer = footerOf(table);
    if (footer === undefined) return undefined;
    const index = blockOf(table, footer.index);
    const entries = index && entriesOf(index);
    if (entries === undefined) return { finding: "no index", mended: undefined };
    const sound = entries.filter(({ handle }) => isSound(table, handle));
    const isMetaSound = areMetaBlocksSound(table, footer.meta);
    if (sound.length === entries.length && isMetaSound) return undefined;
    const finding = `${entries.length - sound.length} of ${entries.length} blocks`;
    // Without a single block it would be no table.
    if (sound.length === 0) return { finding, mended: undefined };
    return { finding, mended: withIndex(table, sound, isMetaSound ? footer.meta : undefined) };
}

interface Handle {
    readonly offset: number;
    readonly size: number;
}

interface Entry {
    readonly key: Buffer;
    readonly handle: Handle;
}

function footerOf(table: Buffer): { meta: Handle; index: Handle } | undefined {
    const footer = table.subarray(Math.max(0, table.length - FOOTER));
    if (footer.length < FOOTER || !footer.subarray(FOOTER - MAGIC.length).equals(MAGIC)) return undefined;
    const reader = new Reader(footer);
    const meta = reader.handle();
    const index = reader.handle();
    return meta === undefined || index === undefined ? undefined : { meta, index };
}

function isSound(table: Buffer, { offset, size }: Handle): boolean {
    const end = offset + size + 1;
    if (end + 4 > table.length) return false;
    const crc = crc32c(table, offset, end);
    const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
    return table.readUInt32LE(end) === masked;
}

/** A block's content, decompressed; undefined where it is damaged. */
function blockOf(table: Buffer, handle: Handle): Buffer | undefined {
    if (!isSound(table, handle)) return undefined;
    const { offset, size } = handle;
    const content = table.subarray(offset, offset + size);
    const compression = table[offset + size];
    if (compression === 0) return content;
    return compression === 1 ? decompressed(content) : undefined;
}

/** Keys share a beginning with the one before; at the end stand the restarts, and how many there are. */
function entriesOf(block: Buffer): Entry[] | undefined {
    if (block.length < 4) return undefined;
    const reader = new Reader(block.subarray(0, block.length - 4 - 4 * block.readUInt32LE(block.length - 4)));
    const entries: Entry[] = [];
    let key = Buffer.alloc(0);
    while (!reader.isAtEnd) {
        const [shared, own, length] = [reader.number(), reader.number(), reader.number()];
        const rest = own === undefined ? undefined : reader.bytes(own);
        const value = length === undefined ? undefined : reader.bytes(length);
        const handle = value && new Reader(value).handle();
        if (shared === undefined || rest === undefined || handle === undefined) return undefined;
        key = Buffer.concat([key.subarray(0, shared), rest]);
        entries.push({ key, handle });
    }
    return entries;
}

/** A garbled filter would hide keys that are there. */
function areMetaBlocksSound(table: Buffer, meta: Handle): boolean {
    const block = blockOf(table, meta);
    const entries = block && entriesOf(block);
    return entries?.every(({ handle }) => isSound(table, handle)) ?? false;
}

/** The table's blocks where they are, and behind them another index that names only these. */
function withIndex(table: Buffer, entries: readonly Entry[], meta: Handle | undefined): Buffer {
    const parts = [table];
    let length = table.length;
    const append = (block: Buffer): Handle => {
        const handle = { offset: length, size: block.length };
        const typed = Buffer.concat([block, Buffer.from([0])]);
        const crc = crc32c(typed, 0, typed.length);
        const trailer = Buffer.alloc(TRAILER - 1);
        trailer.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
        parts.push(typed, trailer);
        length += block.length + TRAILER;
        return handle;
    };
    const metaHandle = meta ?? append(blockWith([]));
    const index = append(blockWith(entries));
    const handles = Buffer.concat([written(metaHandle), written(index)]);
    const padding = Buffer.alloc(FOOTER - MAGIC.length - handles.length);
    return Buffer.concat([...parts, handles, padding, MAGIC]);
}

/** Each entry a restart of its own, so that no key leans on another. */
function blockWith(entries: readonly Entry[]): Buffer {
    const parts: Buffer[] = [];
    const restarts: number[] = [];
    let length = 0;
    for (const { key, handle } of entries) {
        const value = written(handle);
        const entry = Buffer.concat([varint(0), varint(key.length), varint(value.length), key, value]);
        restarts.push(length);
        parts.push(entry);
        length += entry.length;
    }
    if (restarts.length === 0) restarts.push(0);
    const end = Buffer.alloc(4 * restarts.length + 4);
    for (const [at, restart] of restarts.entries()) end.writeUInt32LE(restart, 4 * at);
    end.writeUInt32LE(restarts.length, 4 * restarts.length);
    return Buffer.concat([...parts, end]);
}

function written({ offset, size }: Handle): Buffer {
    return Buffer.concat([varint(offset), varint(size)]);
}

function varint(number: number): Buffer {
    const bytes: number[] = [];
    let rest = number;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
    return Buffer.from([...bytes, rest]);
}

/** Reads without trusting: undefined where the bytes do not make sense. */
class Reader {
    readonly #from: Buffer;
    #at = 0;

    constructor(from: Buffer) {
        this.#from = from;
    }

    get isAtEnd(): boolean {
        return this.#at >= this.#from.length;
    }

    number(): number | undefined {
        let [value, scale] = [0, 1];
        while (scale < 2 ** 49) {
            const byte = this.#from[this.#at++];
            if (byte === undefined) return undefined;
            value += (byte & 0x7f) * scale;
            if (byte < 0x80) return value;
            scale *= 0x80;
        }
        return undefined;
    }

    bytes(count: number): Buffer | undefined {
        if (this.#at + count > this.#from.length) return undefined;
        this.#at += count;
        return this.#from.subarray(this.#at - count, this.#at);
    }

    handle(): Handle | undefined {
        const [offset, size] = [this.number(), this.number()];
        return offset === undefined || size === undefined ? undefined : { offset, size };
    }
}
