import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { type ErrorCode, type ErrorDetails, MediaError } from "../../errors.ts";
import { type Answer, toldWaitMs } from "../../matrix/answer.ts";
import { redactText } from "../../redact.ts";
import type { PresignedUpload } from "../job.ts";
import type { StepLimits } from "../limits.ts";
import { putStream } from "./put-stream.ts";
import type { Target, Upload } from "./target.ts";

/**
 * A storage that the homeserver wants a file to be put into, past itself (MSC3870).
 *
 * What the URL's signature covers cannot be known from outside, so nothing is sent that the storage might check against
 * it: a type, a length, the body. No Matrix token, no name of this program, no cookies. A redirect leads to an
 * address that nobody signed; it is a refusal. Errors name neither the URL nor what the storage said.
 */

/** What S3 and those that speak like it take in one request. */
export const MAX_PRESIGNED_BYTES = 5 * 2 ** 30;

/** Not the homeserver's: a storage that stalls must not keep places from it. */
const agents = {
    http: new HttpAgent({ keepAlive: true, maxSockets: 256 }),
    https: new HttpsAgent({ keepAlive: true, maxSockets: 256 }),
};

/** What `putStream` calls the loss of a connection. */
const CONNECTION_LOST = new Set<ErrorCode>(["HOMESERVER_UNREACHABLE", "UPLOAD_INTERRUPTED"]);
/** What says of a PUT that the file is there (RFC 9110, 9.3.4). A 202 is a promise, and a 203 another one's word. */
const STORED = new Set([200, 201, 204]);
/** Answers of a storage that pass by waiting, beside 5xx: a request timeout, too early, too many requests. */
const PASSING = new Set([408, 425, 429]);

export class PresignedTarget implements Target {
    readonly #presigned: PresignedUpload;
    readonly #limits: StepLimits;

    constructor(presigned: PresignedUpload, limits: StepLimits) {
        this.#presigned = presigned;
        this.#limits = limits;
    }

    /** Resolves when the storage has the file; the homeserver is still to be told. */
    async put({ contentUri, mimetype, size, body }: Upload, signal: AbortSignal): Promise<string> {
        if (contentUri === undefined) throw new MediaError("INTERNAL", { detail: "presigned without an MXC" });
        const answer = await this.#exchange(mimetype, size, body, signal);
        if (STORED.has(answer.status)) return contentUri;
        throw answerError(answer);
    }

    async #exchange(mimetype: string, size: number, body: Upload["body"], signal: AbortSignal): Promise<Answer> {
        const { url, method } = this.#presigned;
        try {
            return await putStream({
                method,
                url: new URL(url),
                headers: { "content-type": mimetype },
                size,
                body,
                agents,
                limits: this.#limits,
                signal,
            });
        } catch (error) {
            if (!(error instanceof MediaError) || !CONNECTION_LOST.has(error.code)) throw error;
            throw new MediaError("PRESIGNED_UNAVAILABLE", { ...withoutTheUrl(error), ambiguous: error.ambiguous });
        }
    }
}

function answerError({ status, retryAfter }: Answer): MediaError {
    const retryAfterMs = toldWaitMs(undefined, retryAfter);
    const code = status >= 500 || PASSING.has(status) ? "PRESIGNED_UNAVAILABLE" : "PRESIGNED_REFUSED";
    const details: ErrorDetails = {
        status,
        detail: `HTTP ${status}`,
        ...(retryAfterMs !== undefined && { retryAfterMs }),
    };
    return new MediaError(code, details);
}

/** The HTTP client's errors carry the whole request; of this one only the words may go on, and no URL in them. */
function withoutTheUrl({ cause }: MediaError): ErrorDetails {
    if (!(cause instanceof Error)) return {};
    const { code } = cause as { code?: unknown };
    const said = new Error(redactText(cause.message));
    return { cause: said, ...(typeof code === "string" && { detail: code }) };
}
