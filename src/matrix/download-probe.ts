import { asMediaError, MediaError } from "../errors.ts";
import { answerError, mayBeAProxys, parseJsonObject, UPLOAD_REFUSALS } from "./answer.ts";
import type { Access } from "./client.ts";
import { parseMxc } from "./mxc.ts";
import { answerOf, homeserverUrlFor } from "./request.ts";

const TIMEOUT_MS = 30_000;

/**
 * Whether an MXC has its content, asked by a download that does not wait (`timeout_ms=0`): 200 is yes, 504
 * M_NOT_YET_UPLOADED is no. Not a byte of the content is kept. Throws RESERVATION_GONE where the homeserver does not know the
 * address, and a MediaError for every other answer.
 */
export async function hasContent(access: Access, contentUri: string, signal?: AbortSignal): Promise<boolean> {
    const { serverName, mediaId } = parseMxc(contentUri);
    const file = `${encodeURIComponent(serverName)}/${encodeURIComponent(mediaId)}`;
    // Authenticated media (spec v1.11); servers from before it only have the second.
    for (const path of [`/_matrix/client/v1/media/download/${file}`, `/_matrix/media/v3/download/${file}`]) {
        const url = homeserverUrlFor(access, path, { timeout_ms: 0 });
        const asked = { method: "GET", timeoutMs: TIMEOUT_MS, readsSuccess: false } as const;
        const { status, text } = await answerOf(access, url, {
            ...asked,
            ...(signal !== undefined && { signal }),
        });
        if (status >= 200 && status < 400) return true;
        if (status === 504) return false;
        const body = parseJsonObject(text);
        if (status === 404 && body["errcode"] === "M_UNRECOGNIZED") continue;
        const error = answerError({ status, body }, UPLOAD_REFUSALS);
        // Without a code it is not the homeserver's word.
        const isGone = status === 404 && error.errcode !== undefined;
        throw isGone ? new MediaError("RESERVATION_GONE", { cause: error, status }) : error;
    }
    return false;
}

/** The same where the question may be refused for good: then there is nothing that could be relied on. */
export async function hasUsableContent(access: Access, contentUri: string, signal: AbortSignal): Promise<boolean> {
    return hasContent(access, contentUri, signal).catch((thrown: unknown) => {
        const error = asMediaError(thrown);
        if (error.code === "RESERVATION_GONE" || error.retryable || mayBeAProxys(error) || signal.aborted) throw error;
        return false;
    });
}
