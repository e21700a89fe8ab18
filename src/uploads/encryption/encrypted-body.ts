import { MediaError } from "../../errors.ts";
import type { OpenedSource } from "../sources/source.ts";
import { AttachmentCipher, type EncryptedFile } from "./attachment-cipher.ts";
import type { JobEncryption } from "./job-encryption.ts";

/** Passes on the ciphertext of a body. */
export async function* encrypted(
    body: AsyncIterable<Uint8Array>,
    cipher: AttachmentCipher,
): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) yield cipher.update(chunk);
}

/**
 * Passes on the ciphertext of a body that was encrypted before, and throws SOURCE_CHANGED where it comes out other than
 * then. The last piece is held back until the hash is known to be right, so a changed source never looks complete to
 * the target.
 */
export async function* encryptedAgain(
    body: AsyncIterable<Uint8Array>,
    file: EncryptedFile,
    size: number,
): AsyncGenerator<Uint8Array> {
    const cipher = new AttachmentCipher(file);
    let total = 0;
    let held: Uint8Array | undefined;
    for await (const chunk of body) {
        // It would push out what may be the last piece.
        if (chunk.length === 0) continue;
        total += chunk.length;
        if (total > size) throw changed("longer");
        if (held !== undefined) yield held;
        held = cipher.update(chunk);
    }
    if (total !== size) throw changed("shorter");
    if (cipher.finish().hashes.sha256 !== file.hashes.sha256) throw changed("other bytes");
    if (held !== undefined) yield held;
}

function changed(how: string): MediaError {
    return new MediaError("SOURCE_CHANGED", { detail: `${how} than when it was encrypted` });
}

/** What a prepared job uploads. Throws SOURCE_CHANGED where the source is seen to be another before it is read. */
export function encryptedUpload(
    { file, size, spooled }: JobEncryption,
    body: AsyncIterable<Uint8Array>,
    opened: OpenedSource,
): { readonly body: AsyncIterable<Uint8Array>; readonly size: number } {
    if (file === undefined || size === undefined) throw new MediaError("INTERNAL", { detail: "not prepared" });
    const isOther = opened.size !== undefined && opened.size !== size;
    if (spooled !== true) {
        if (isOther) throw changed("another length");
        return { size, body: encryptedAgain(body, file, size) };
    }
    if (isOther) throw new MediaError("SPOOL_MISSING", { detail: "not as long as it was written" });
    return { size, body };
}
