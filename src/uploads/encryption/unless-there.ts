import { asMediaError, MediaError } from "../../errors.ts";
import { mayBeAProxys } from "../../matrix/answer.ts";
import type { ActingUsers } from "../../matrix/client.ts";
import { hasUsableContent } from "../../matrix/download-probe.ts";
import type { Job } from "../job.ts";
import type { Transferred } from "../transfer.ts";
import { ENCRYPTED_TYPE } from "./job-encryption.ts";

/**
 * A source that has changed since it was encrypted is no failure when an earlier try got through and only its end was
 * not journaled: what the homeserver has is then what the event says. Encrypted anew, it would not be. Rejects with the
 * transfer's error where there is nothing, and with RESERVATION_GONE where the address is gone, or what is there may have
 * another key.
 */
export async function unlessThere(
    { encryption, uploader, contentUri }: Job,
    error: unknown,
    users: ActingUsers,
    signal: AbortSignal,
): Promise<Transferred> {
    const isChanged = error instanceof MediaError && error.code === "SOURCE_CHANGED";
    if (!isChanged || encryption?.size === undefined || contentUri === undefined) throw error;
    const size = encryption.renewed === true ? undefined : encryption.size;
    const wanted = { size, mimetype: ENCRYPTED_TYPE };
    const isThere = await hasUsableContent(users.get(uploader).access(), contentUri, wanted, signal).catch(
        (thrown: unknown) => {
            // A page in its place may stay: encrypted anew, the file comes by another address if this one is taken.
            throw mayBeAProxys(asMediaError(thrown)) ? error : thrown;
        },
    );
    if (!isThere) throw error;
    if (encryption.renewed === true) throw new MediaError("RESERVATION_GONE", { cause: error });
    return { size: encryption.size, contentUri };
}
