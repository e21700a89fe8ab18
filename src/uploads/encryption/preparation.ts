import { MediaError } from "../../errors.ts";
import type { Spool } from "../sources/spool.ts";
import { type Attempt, reading, type TransferParts } from "../transfer.ts";
import { AttachmentCipher, newSecret } from "./attachment-cipher.ts";
import { encrypted } from "./encrypted-body.ts";
import { ciphertextName, type Prepared } from "./job-encryption.ts";

/**
 * Reads a job's source once and encrypts it under a new secret, before its event is sent. The caller journals the result
 * before anything else sees it; a ciphertext that no job names is swept at the next start.
 *
 * The ciphertext is not kept where the bytes lie in the spool already, nor where the spool has no room for it: then it
 * is made again for the upload. To wait for room could be for ever, because what this very message has spooled is only
 * uploaded after its event.
 */
export async function prepare(attempt: Attempt, parts: TransferParts): Promise<Prepared> {
    const { job } = attempt;
    const isKept = job.encryption?.strategy !== "two-pass" && job.source.kind !== "spool";
    return reading(attempt, parts, async (body) => {
        const cipher = new AttachmentCipher(newSecret());
        const ciphertext = encrypted(body, cipher);
        const name = ciphertextName(job.id);
        const kept = isKept && (await fits(parts.spool, name, ciphertext));
        // What is left of it; only its hash is wanted.
        for await (const _ of ciphertext);
        return { file: cipher.finish(), size: cipher.size, spoolName: kept ? name : undefined };
    });
}

/** Writes a body to the spool; false where that has no room for it, and the rest of the body can still be read. */
async function fits(spool: Spool, name: string, body: AsyncGenerator<Uint8Array>): Promise<boolean> {
    // Without `return()`, so that the spool's giving up does not end the body.
    const unended: AsyncIterable<Uint8Array> = { [Symbol.asyncIterator]: () => ({ next: () => body.next() }) };
    try {
        await spool.write(name, unended);
        return true;
    } catch (error) {
        if (error instanceof MediaError && error.code === "SPOOL_FULL") return false;
        throw error;
    }
}
