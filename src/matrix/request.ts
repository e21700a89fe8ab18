import { once } from "node:events";
import { Agent as HttpAgent, type IncomingMessage, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { type ErrorCode, MediaError, systemCode } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import { type Answer, answerError, isSuccess, type JsonObject, parseJsonObject, type RefusalCodes } from "./answer.ts";
import type { Access } from "./client.ts";

/**
 * Requests to the homeserver, made here and not by the SDK's client: the SDKs can neither stream, nor give a
 * transaction id, nor tell `Retry-After`. With node:http itself: a library's request costs two to three times the
 * processor time, and there is one for every event. The access token leaves only through `homeserverUrlFor` and the header set
 * next to it, and redirects are never followed, so it reaches the homeserver and nothing else.
 */

/** An answer larger than this is not read on. A page of 100 events of 64 KiB fits. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 60_000;

/** Kept alive, so that an event costs one round trip and not three. */
export const homeserverAgents = {
    http: new HttpAgent({ keepAlive: true, maxSockets: 256 }),
    https: new HttpsAgent({ keepAlive: true, maxSockets: 256 }),
};

export interface MatrixRequest {
    readonly method: "GET" | "POST" | "PUT";
    /** Below the homeserver's address, already percent-encoded: its bytes must be the same on every try. */
    readonly path: string;
    readonly query?: Readonly<Record<string, string | number | undefined>>;
    readonly body?: JsonObject;
    readonly refusals: RefusalCodes;
    readonly signal?: AbortSignal | undefined;
    /** For the whole exchange, in milliseconds. */
    readonly timeoutMs?: number;
}

/** Sends one request as `access.userId` and returns the JSON object answered with 2xx. Throws MediaError. */
export async function matrixRequest(access: Access, request: MatrixRequest): Promise<JsonObject> {
    const answer = await exchange(access, request);
    if (!isSuccess(answer.status)) throw answerError(answer, request.refusals);
    return answer.body;
}

async function exchange(
    access: Access,
    { method, path, query, body, signal, timeoutMs }: MatrixRequest,
): Promise<Answer> {
    const { status, retryAfter, text } = await answerOf(access, homeserverUrlFor(access, path, query), {
        method,
        ...(body !== undefined && { body: JSON.stringify(body) }),
        ...(signal !== undefined && { signal }),
        ...(timeoutMs !== undefined && { timeoutMs }),
    });
    return { status, body: parseJsonObject(text), retryAfter };
}

export interface RawRequest {
    readonly method: "GET" | "POST" | "PUT";
    /** JSON text. */
    readonly body?: string;
    readonly signal?: AbortSignal;
    /** For the whole exchange, in milliseconds. */
    readonly timeoutMs?: number;
    /** Whether the body of a 2xx or 3xx answer is of interest. @default true */
    readonly readsSuccess?: boolean;
}

export interface RawAnswer {
    readonly status: number;
    readonly retryAfter: string | undefined;
    /** Empty where it was of no interest. */
    readonly text: string;
}

/** One exchange with the homeserver. Redirects are not followed. Throws MediaError where no answer came. */
export async function answerOf(
    access: Access,
    url: URL,
    { method, body, signal, timeoutMs = DEFAULT_TIMEOUT_MS, readsSuccess = true }: RawRequest,
): Promise<RawAnswer> {
    const abort = new LinkedAbort(signal === undefined ? [] : [signal], { ms: timeoutMs, reason: tooLate });
    try {
        const isTls = url.protocol === "https:";
        const request = (isTls ? httpsRequest : httpRequest)(url, {
            method,
            agent: isTls ? homeserverAgents.https : homeserverAgents.http,
            signal: abort.signal,
            headers: {
                ...authorization(access),
                ...(body !== undefined && {
                    "content-type": "application/json",
                    "content-length": Buffer.byteLength(body),
                }),
            },
        });
        const responded = once(request, "response") as Promise<[IncomingMessage]>;
        // An abort while the answer is being read is told here too, and has been heard there.
        request.on("error", () => {});
        request.end(body);
        const [response] = await responded;
        const { statusCode = 0, headers } = response;
        const retryAfter = headers["retry-after"];
        if (readsSuccess || statusCode >= 400) return { status: statusCode, retryAfter, text: await textOf(response) };
        response.destroy();
        return { status: statusCode, retryAfter, text: "" };
    } catch (cause) {
        throw connectionError(cause, "HOMESERVER_UNREACHABLE", abort.signal);
    } finally {
        abort.release();
    }
}

function tooLate(): MediaError {
    return new MediaError("HOMESERVER_UNREACHABLE", { detail: "no answer in time", ambiguous: true });
}

async function textOf(response: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > MAX_ANSWER_BYTES)
            throw new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "answer too large", ambiguous: true });
        chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString();
}

/** The address of an endpoint, acting as `access.userId`. */
export function homeserverUrlFor(access: Access, path: string, query: MatrixRequest["query"] = {}): URL {
    const url = new URL(access.homeserverUrl.replace(/\/+$/, "") + path);
    for (const [name, value] of Object.entries(query)) {
        if (value !== undefined) url.searchParams.set(name, String(value));
    }
    // Application Service API, "Identity assertion".
    url.searchParams.set("user_id", access.userId);
    return url;
}

export function authorization(access: Access): { authorization: string } {
    return { authorization: `Bearer ${access.accessToken}` };
}

/** Nothing can have reached the other side when the connection was never made. */
const NEVER_CONNECTED = new Set([
    "ECONNREFUSED",
    "ENOTFOUND",
    "EAI_AGAIN",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "UND_ERR_CONNECT_TIMEOUT",
]);

/** What a failed exchange stands for: our own abort first, else `code` with the system's error code as detail. */
export function connectionError(cause: unknown, code: ErrorCode, signal?: AbortSignal): MediaError {
    if (cause instanceof MediaError) return cause;
    if (signal?.aborted === true) {
        const { reason } = signal;
        return reason instanceof MediaError ? reason : new MediaError("CANCELLED", { cause: reason, ambiguous: true });
    }
    const detail = systemCode(cause);
    return new MediaError(code, {
        cause,
        ambiguous: detail === undefined || !NEVER_CONNECTED.has(detail),
        ...(detail !== undefined && { detail }),
    });
}
