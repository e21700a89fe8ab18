import type { IncomingHttpHeaders } from "node:http";
import { asMediaError, MediaError } from "../errors.ts";
import { answerError, isSuccess, mayBeAProxys, parseJsonObject, UPLOAD_REFUSALS } from "./answer.ts";
import type { Access } from "./client.ts";
import { parseMxc } from "./mxc.ts";
import { answerOf, homeserverUrlFor, type RawAnswer } from "./request.ts";

const TIMEOUT_MS = 30_000;

/** What is known of the file that is asked for. */
export interface Wanted {
    /** Bytes; undefined where they may be another number. */
    readonly size?: number | undefined;
    readonly mimetype?: string | undefined;
}

/**
 * Whether an MXC has its content, asked by a download that does not wait (`timeout_ms=0`): 200 is yes, 504
 * M_NOT_YET_UPLOADED is no. Not a byte of the content is kept. Throws RESERVATION_GONE where the homeserver does not know the
 * address, and a MediaError for every other answer: HOMESERVER_ANSWER_INVALID for a success that is not the file `wanted`.
 */
export async function hasContent(
    access: Access,
    contentUri: string,
    wanted: Wanted,
    signal?: AbortSignal,
): Promise<boolean> {
    const { serverName, mediaId } = parseMxc(contentUri);
    const file = `${encodeURIComponent(serverName)}/${encodeURIComponent(mediaId)}`;
    // Authenticated media (spec v1.11); servers from before it only have the second.
    for (const path of [`/_matrix/client/v1/media/download/${file}`, `/_matrix/media/v3/download/${file}`]) {
        const url = homeserverUrlFor(access, path, { timeout_ms: 0 });
        const asked = { method: "GET", timeoutMs: TIMEOUT_MS, readsSuccess: false } as const;
        const request = { ...asked, ...(signal !== undefined && { signal }) };
        const has = await answerOf(access, url, request, (answer) => isContent(answer, wanted));
        if (has !== undefined) return has;
    }
    return false;
}

/** Undefined where the server lacks the endpoint. */
function isContent({ status, headers, text }: RawAnswer, wanted: Wanted): boolean | undefined {
    if (status >= 200 && status < 400) {
        if (isSuccess(status) && isAnother(headers, wanted)) throw notTheFile();
        return true;
    }
    const body = parseJsonObject(text);
    if (status === 404 && body["errcode"] === "M_UNRECOGNIZED") return undefined;
    const error = answerError({ status, body, retryAfter: headers["retry-after"] }, UPLOAD_REFUSALS);
    // Without a code it is not the homeserver's word.
    if (status === 504 && error.errcode !== undefined) return false;
    const isGone = status === 404 && error.errcode !== undefined;
    throw isGone ? new MediaError("RESERVATION_GONE", { cause: error, status }) : error;
}

/** Whether a success is somebody else's, such as a proxy's page about the homeserver's absence, or the answer to another request. */
function isAnother(headers: IncomingHttpHeaders, { size, mimetype }: Wanted): boolean {
    const length = headers["content-length"];
    if (size !== undefined && length !== undefined && headers["content-encoding"] === undefined)
        return Number(length) !== size;
    return mimetype !== undefined && isNoFile(headers["content-type"]) && !isNoFile(mimetype);
}

function isNoFile(mimetype = ""): boolean {
    return /^(?:text\/html|application\/(?:xhtml\+xml|json))\b/i.test(mimetype);
}

function notTheFile(): MediaError {
    return new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "another file or a page in its place" });
}

/** The same where the question may be refused for good: then there is nothing that could be relied on. */
export async function hasUsableContent(
    access: Access,
    contentUri: string,
    wanted: Wanted,
    signal: AbortSignal,
): Promise<boolean> {
    return hasContent(access, contentUri, wanted, signal).catch((thrown: unknown) => {
        const error = asMediaError(thrown);
        if (error.code === "RESERVATION_GONE" || error.retryable || mayBeAProxys(error) || signal.aborted) throw error;
        return false;
    });
}
