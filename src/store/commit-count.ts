import { closeSync, constants, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { Level } from "level";
import { decodeRecord, encodeRecord } from "./record-codec.ts";

/**
 * Notices that writes are missing, which LevelDB itself does not: it opens a cut log without a word.
 *
 * Writes are numbered. Each carries its number as one more small record, in a ring of the last ones, so a gap among
 * them shows. The newest number is also written to a file beside LevelDB's, after the write and without a sync of its
 * own: `kill -9` leaves it exact, a power cut may leave it behind, but never ahead, so it raises no false alarm.
 */
export const COUNTED = "written";
/** More writes than a log of LevelDB's (4 MiB) usually holds. */
const RING = 4096;
const FILE = "COUNT";

interface Operation {
    readonly type: "put";
    readonly key: string;
    readonly value: string;
}

export class CommitCount {
    #last = 0;
    #file: number | undefined;

    /** The record that goes with the next write. */
    next(): Operation {
        return this.#operation(this.#last + 1, {});
    }

    /** To be called when that write is on disk; one that failed leaves its number to the next. */
    advance(): void {
        this.#last++;
        this.#note();
    }

    /** Reads the ring and the file; returns what is missing, in words, or undefined. */
    async open(db: Level, directory: string): Promise<string | undefined> {
        this.close();
        const ring = await ringOf(db);
        const noted = readNoted(join(directory, FILE));
        const newest = Math.max(0, ...ring.keys());
        const finding = missing(ring, newest, noted);
        this.#last = Math.max(newest, noted ?? 0);
        this.#file = openFile(join(directory, FILE), noted === undefined);
        if (finding !== undefined) {
            // What is missing is told once: nothing before this is looked for again.
            const { key, value } = this.#operation(this.#last + 1, { first: true });
            await db.put(key, value);
            this.#last++;
        }
        this.#note();
        return finding;
    }

    close(): void {
        if (this.#file !== undefined) closeSync(this.#file);
        this.#file = undefined;
    }

    #operation(number: number, also: { first?: true }): Operation {
        const key = `${COUNTED}\u0000${String(number % RING).padStart(4, "0")}`;
        return { type: "put", key, value: encodeRecord(key, { number, ...also }) };
    }

    #note(): void {
        if (this.#file === undefined) return;
        try {
            writeSync(this.#file, noteOf(this.#last), 0);
        } catch {
            // A note that lags behind notices less, and never what is not so.
        }
    }
}

/** The numbers that are there, and which of them opens a new count. */
async function ringOf(db: Level): Promise<Map<number, boolean>> {
    const found = new Map<number, boolean>();
    for await (const [key, value] of db.iterator({ gt: `${COUNTED}\u0000`, lt: `${COUNTED}\u0001` })) {
        const decoded = decodeRecord(key, value);
        const number = decoded.kind === "sound" ? decoded.record["number"] : undefined;
        if (decoded.kind === "sound" && typeof number === "number") found.set(number, decoded.record["first"] === true);
    }
    return found;
}

function missing(ring: ReadonlyMap<number, boolean>, newest: number, noted: number | undefined): string | undefined {
    const lost = Math.max(0, (noted ?? 0) - newest);
    let gaps = 0;
    for (let number = newest; number > Math.max(0, newest - RING); number--) {
        if (!ring.has(number)) gaps++;
        if (ring.get(number) === true) break;
    }
    const found = [
        ...(lost > 0 ? [`its last ${lost} writes are missing`] : []),
        ...(gaps > 0 ? [`${gaps} of the ${Math.min(RING, newest)} writes before are missing`] : []),
        ...(noted === undefined && newest > 0
            ? [`${FILE} cannot be read, so whether its last writes are there is not known`]
            : []),
    ];
    return found.length === 0 ? undefined : found.join("; ");
}

function noteOf(number: number): string {
    const digits = String(number).padStart(16, "0");
    return `${digits} ${crc32(digits).toString(16).padStart(8, "0")}\n`;
}

/** Undefined where there is none that makes sense. */
function readNoted(path: string): number | undefined {
    try {
        const text = readFileSync(path, "latin1");
        const number = Number(text.slice(0, 16));
        return Number.isSafeInteger(number) && text === noteOf(number) ? number : undefined;
    } catch {
        return undefined;
    }
}

/** Synced once when it is made: a power cut right after would leave it empty. */
function openFile(path: string, isNew: boolean): number | undefined {
    try {
        const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
        if (isNew) {
            writeSync(file, noteOf(0), 0);
            fsyncSync(file);
        }
        return file;
    } catch {
        return undefined;
    }
}
