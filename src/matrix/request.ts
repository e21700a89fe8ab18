import { Agent as HttpAgent, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { type ErrorCode, MediaError, systemCode } from "../errors.ts";
import { beginRequest } from "../http-request.ts";
import { type Answer, answerError, isSuccess, jsonBody, type JsonObject, type RefusalCodes } from "./answer.ts";
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

/**
 * Sends one request as `access.userId` and returns what `read` makes of the JSON object answered with 2xx.
 * Throws MediaError: every success of the Client-Server API is a JSON object, so a page with status 200 is somebody else's,
 * and nothing was carried out.
 *
 * @param read Throws HOMESERVER_ANSWER_INVALID for what cannot be the answer to this request. @default gives the object as it is, where
 * it names no event and no file
 */
export function matrixRequest(access: Access, request: MatrixRequest): Promise<JsonObject>;
export function matrixRequest<T>(access: Access, request: MatrixRequest, read: (body: JsonObject) => T): Promise<T>;
export function matrixRequest(
    access: Access,
    { method, path, query, body, refusals, signal, timeoutMs }: MatrixRequest,
    read: (body: JsonObject) => unknown = withoutIds,
): Promise<unknown> {
    const request: RawRequest = {
        method,
        ...(body !== undefined && { body: JSON.stringify(body) }),
        ...(signal !== undefined && { signal }),
        ...(timeoutMs !== undefined && { timeoutMs }),
    };
    return answerOf(access, homeserverUrlFor(access, path, query), request, ({ status, headers, text }) => {
        const answer: Answer = { status, ...jsonBody(text), retryAfter: headers["retry-after"] };
        if (!isSuccess(status)) throw answerError(answer, refusals);
        if (answer.isJson === false) throw notJson();
        return read(answer.body);
    });
}

function withoutIds(body: JsonObject): JsonObject {
    if ("event_id" in body || "content_uri" in body)
        throw new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "the answer to another request", ambiguous: true });
    return body;
}

/** A success that says nothing: who answered so may as well have carried the request out. */
export function notJson(): MediaError {
    return new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "no JSON object", ambiguous: true });
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
    readonly headers: IncomingHttpHeaders;
    /** Empty where it was of no interest. */
    readonly text: string;
}

/**
 * One exchange with the homeserver. Redirects are not followed. Rejects with MediaError where no answer came, and with what
 * `read` throws.
 *
 * @param read Makes the answer into what is returned. Where it throws, and for every error, the connection has no other
 * request: something on the way may have answered twice, and then each request on it gets the answer to the one before,
 * which may well look like its own.
 */
export async function answerOf<T>(
    access: Access,
    url: URL,
    request: RawRequest,
    read: (answer: RawAnswer) => T,
): Promise<T> {
    try {
        return await exchanged(url, authorization(access), request, read);
    } catch (cause) {
        throw connectionError(cause, "HOMESERVER_UNREACHABLE", request.signal);
    }
}

/** With listeners of its own: stream helpers and a signal for the request cost a tenth of a `send()`. */
function exchanged<T>(
    url: URL,
    authorized: Readonly<Record<string, string>>,
    { method, body, signal, timeoutMs = DEFAULT_TIMEOUT_MS, readsSuccess = true }: RawRequest,
    read: (answer: RawAnswer) => T,
): Promise<T> {
    return new Promise((resolve, reject) => {
        const cutOff = (cause: unknown): void => {
            reject(cause);
            request.destroy();
        };
        const request = beginRequest(
            {
                method,
                url,
                headers: {
                    ...authorized,
                    ...(body !== undefined && {
                        "content-type": "application/json",
                        "content-length": Buffer.byteLength(body),
                    }),
                },
                agents: homeserverAgents,
                signal,
            },
            cutOff,
        );
        const timer = setTimeout(() => cutOff(tooLate()), timeoutMs);
        request.once("close", () => clearTimeout(timer));
        request.on("response", (response) => {
            const { statusCode: status = 0, headers } = response;
            const answer = (text: string): void => {
                // An error does not say whose it is.
                let isOwn = status < 300;
                try {
                    resolve(read({ status, headers, text }));
                } catch (error) {
                    isOwn = false;
                    reject(error);
                }
                // Here and not behind a promise: by then the connection may have its next request.
                if (!isOwn) request.socket?.destroy();
            };
            if (readsSuccess || status >= 400) return collect(response, answer, cutOff);
            answer("");
            response.destroy();
        });
        request.end(body);
    });
}

function tooLate(): MediaError {
    return new MediaError("HOMESERVER_UNREACHABLE", { detail: "no answer in time", ambiguous: true });
}

/** Reads an answer's text to its end. */
function collect(response: IncomingMessage, then: (text: string) => void, fail: (cause: unknown) => void): void {
    const chunks: Buffer[] = [];
    let length = 0;
    response.on("data", (chunk: Buffer) => {
        length += chunk.length;
        if (length > MAX_ANSWER_BYTES)
            return fail(new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "answer too large", ambiguous: true }));
        chunks.push(chunk);
    });
    response.on("end", () => then(Buffer.concat(chunks).toString()));
    // Also where the connection ends before the answer does.
    response.on("error", fail);
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
