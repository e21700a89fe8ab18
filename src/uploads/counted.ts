import { MediaError } from "../errors.ts";
import { looksLikeErrorPage } from "./content-check.ts";
import type { ByteLimits } from "./limits.ts";

/** The target gets pieces of at least this size: each one costs it a turn of the event loop, whatever its length. */
const PIECE_BYTES = 256 * 1024;

export interface Watching {
    /** Hears the bytes so far, at every chunk. */
    readonly onBytes?: (total: number) => void;
    /** What an error of the body itself stands for. */
    readonly explain: (error: unknown) => MediaError;
}

/**
 * Passes a source's bytes on, counted. Throws FILE_TOO_LARGE beyond `maxBytes`, SOURCE_LENGTH_MISMATCH when the bytes
 * are not `size`, SOURCE_TYPE_MISMATCH when they are an error page in place of `mimetype`.
 *
 * The last piece is held back until the source has ended well: a body of the wrong length never looks complete to
 * the target, which would take it for the file. All of it in one generator, because each further one between source
 * and target costs throughput.
 */
export async function* counted(
    body: AsyncIterable<Uint8Array>,
    { size, maxBytes }: ByteLimits,
    mimetype: string | undefined,
    { onBytes, explain }: Watching,
): AsyncGenerator<Uint8Array> {
    let total = 0;
    let held: Uint8Array[] = [];
    let heldBytes = 0;
    try {
        for await (const chunk of body) {
            if (chunk.length === 0) continue;
            if (total === 0 && looksLikeErrorPage(chunk, mimetype)) {
                throw new MediaError("SOURCE_TYPE_MISMATCH", { detail: `promised ${mimetype}` });
            }
            total += chunk.length;
            if (total > maxBytes) throw tooLarge(maxBytes);
            if (size !== undefined && total > size) throw wrongLength(size, "more");
            if (heldBytes >= PIECE_BYTES) {
                yield Buffer.concat(held);
                held = [];
                heldBytes = 0;
            }
            held.push(chunk);
            heldBytes += chunk.length;
            onBytes?.(total);
        }
    } catch (error) {
        throw explain(error);
    }
    if (size !== undefined && total !== size) throw wrongLength(size, `${total}`);
    if (heldBytes > 0) yield Buffer.concat(held);
}

export function tooLarge(maxBytes: number): MediaError {
    return new MediaError("FILE_TOO_LARGE", { detail: `more than ${maxBytes} bytes`, limit: maxBytes });
}

function wrongLength(announced: number, came: string): MediaError {
    return new MediaError("SOURCE_LENGTH_MISMATCH", { detail: `announced ${announced} bytes, sent ${came}` });
}
