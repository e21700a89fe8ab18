import { createHash } from "node:crypto";
import { MediaError } from "../errors.ts";
import { checkFirstBytes, HEAD_BYTES } from "./content-check.ts";
import type { RightOfWay } from "../right-of-way.ts";
import type { ByteLimits } from "./limits.ts";

/** The target gets pieces of at least this size: each one costs it a turn of the event loop, whatever its length. */
const PIECE_BYTES = 256 * 1024;
/** A slow source's bytes are not gathered for longer: the target's time without a byte would run out over them. */
const MAX_GATHER_MS = 1000;

/** What the bytes are held to; the job's own fields. */
export interface Promised {
    readonly mimetype?: string | undefined;
    /** SHA-256 of the whole, in lower-case hex. */
    readonly sha256?: string | undefined;
}

export interface Watching {
    /** Hears the bytes so far, at every chunk. */
    readonly onBytes?: (total: number) => void;
    /** Waited for before each piece. */
    readonly way?: RightOfWay;
    /** What an error of the body itself stands for. */
    readonly explain: (error: unknown) => MediaError;
}

/**
 * Passes a source's bytes on, counted. Throws FILE_TOO_LARGE beyond `maxBytes`, SOURCE_LENGTH_MISMATCH when the bytes
 * are not `size`, SOURCE_TYPE_MISMATCH when they begin as something else than was promised, SOURCE_CHECKSUM_MISMATCH
 * when their hash is another.
 *
 * Where the size is known the last piece is held back until the source has ended well: a body of the wrong length, or
 * with another hash, never looks complete to the target, which would take it for the file. Where it is not known, the
 * bytes go to the spool or to somebody who holds back a last piece. All of it in one generator, because each further one
 * between source and target costs throughput; the first bytes are looked at once, before the first piece goes out.
 */
export async function* counted(
    body: AsyncIterable<Uint8Array>,
    { size, maxBytes }: ByteLimits,
    { mimetype, sha256 }: Promised,
    { onBytes, way, explain }: Watching,
): AsyncGenerator<Uint8Array> {
    const hash = sha256 === undefined ? undefined : createHash("sha256");
    let total = 0;
    let held: Uint8Array[] = [];
    let heldBytes = 0;
    let heldSince = 0;
    let checked = mimetype === undefined;
    try {
        for await (const chunk of body) {
            if (chunk.length === 0) continue;
            total += chunk.length;
            if (total > maxBytes) throw tooLarge(maxBytes);
            if (size !== undefined && total > size) throw wrongLength(size, "more");
            if (heldBytes === 0) heldSince = performance.now();
            held.push(chunk);
            heldBytes += chunk.length;
            hash?.update(chunk);
            if (!checked && heldBytes >= HEAD_BYTES) {
                checked = true;
                await checkFirstBytes(headOf(held), mimetype);
            }
            onBytes?.(total);
            const isPiece = heldBytes >= PIECE_BYTES || performance.now() - heldSince > MAX_GATHER_MS;
            if (!isPiece || !checked || total === size) continue;
            const free = way?.free();
            if (free !== undefined) await free;
            yield Buffer.concat(held);
            held = [];
            heldBytes = 0;
        }
    } catch (error) {
        throw explain(error);
    }
    if (size !== undefined && total !== size) throw wrongLength(size, `${total}`);
    if (!checked) await checkFirstBytes(headOf(held), mimetype);
    if (hash !== undefined && hash.digest("hex") !== sha256) throw new MediaError("SOURCE_CHECKSUM_MISMATCH");
    if (heldBytes > 0) yield Buffer.concat(held);
}

/** At most HEAD_BYTES, without copying the pieces that lie behind them. */
function headOf(pieces: readonly Uint8Array[]): Uint8Array {
    const [first = new Uint8Array()] = pieces;
    return first.length >= HEAD_BYTES || pieces.length === 1
        ? first.subarray(0, HEAD_BYTES)
        : Buffer.concat(pieces, Math.min(HEAD_BYTES, byteLength(pieces)));
}

function byteLength(pieces: readonly Uint8Array[]): number {
    return pieces.reduce((sum, { length }) => sum + length, 0);
}

export function tooLarge(maxBytes: number): MediaError {
    return new MediaError("FILE_TOO_LARGE", { detail: `more than ${maxBytes} bytes`, limit: maxBytes });
}

function wrongLength(announced: number, came: string): MediaError {
    return new MediaError("SOURCE_LENGTH_MISMATCH", { detail: `announced ${announced} bytes, sent ${came}` });
}
