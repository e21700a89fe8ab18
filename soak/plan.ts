import { createHash } from "node:crypto";

/**
 * What is said in a soak: message by message a function of the seed and its number alone. So every process knows what
 * another one says or serves, a component that was killed says the same again, and at the end it can be told what each
 * room has to show.
 */
export interface Setting {
    readonly seed: number;
    readonly homeserverUrl: string;
    readonly accessToken: string;
    readonly bot: string;
    readonly ghosts: readonly string[];
    readonly rooms: readonly string[];
    /** One of `rooms`. */
    readonly encryptedRoom: string;
    readonly remoteUrl: string;
}

export type Kind = "text" | "fetched" | "buffer" | "stream" | "sticker" | "gone";

export interface Planned {
    readonly index: number;
    readonly roomId: string;
    readonly sender: string;
    readonly kind: Kind;
    /** Of its file; "" for a text. */
    readonly file: string;
}

/** Of twenty messages. */
const KINDS: readonly Kind[] = [
    ...Array<Kind>(8).fill("text"),
    ...Array<Kind>(5).fill("fetched"),
    ...Array<Kind>(3).fill("buffer"),
    "stream",
    "sticker",
    "sticker",
    "gone",
];
/** There the events wait for their files, one after the other: such a room takes less. */
const ENCRYPTED_EVERY = 16;
/** Stickers come up for a while, are forgotten (`dedupeKeepMs`), and come up again. */
const STICKERS = 300;
const STICKERS_AT_ONCE = 20;
const STICKERS_LAST = 200;

export function plannedMessage({ seed, rooms, encryptedRoom, ghosts, bot }: Setting, index: number): Planned {
    const plain = rooms.filter((roomId) => roomId !== encryptedRoom);
    const drawn = digest(`${seed}/${index}`);
    const kind = KINDS[drawn.readUInt16LE(0) % KINDS.length] ?? "text";
    return {
        index,
        roomId: index % ENCRYPTED_EVERY === 0 ? encryptedRoom : (plain[index % plain.length] ?? ""),
        sender: ghosts[drawn.readUInt8(2) % ghosts.length] ?? bot,
        kind,
        file: fileName(seed, index, kind, drawn.readUInt8(3)),
    };
}

function fileName(seed: number, index: number, kind: Kind, drawn: number): string {
    if (kind === "text") return "";
    if (kind !== "sticker") return `${kind}-${seed}-${index}`;
    const first = Math.floor(index / STICKERS_LAST) * STICKERS_AT_ONCE;
    return `sticker-${seed}-${(first + (drawn % STICKERS_AT_ONCE)) % STICKERS}`;
}

/** A file of half a kB to 24 kB, one in fifty of one to two MiB. */
export function bytesOf(file: string): Buffer {
    const seed = digest(file);
    const size = seed.readUInt32LE(0);
    return Buffer.alloc(isLarge(file) ? 2 ** 20 + 1 + (size % 2 ** 20) : 500 + (size % 24_000), seed);
}

/** Its message says so, and the component's thread takes it. */
export function isLarge(file: string): boolean {
    return digest(file).readUInt8(4) % 50 === 0;
}

/** A row of numbers from 0 to 1 that follows from a seed: mulberry32. */
export function randomOf(seed: number): () => number {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(state ^ (state >>> 15), state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}

function digest(text: string): Buffer {
    return createHash("sha256").update(text).digest();
}
