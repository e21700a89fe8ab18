import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { Agent, request as httpRequest } from "undici";
import { type ErrorCode, MediaError, systemCode } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import { type Answer, answerError, isSuccess, type JsonObject, parseJsonObject, type RefusalCodes } from "./answer.ts";
import type { Access } from "./client.ts";

/**
 * Requests to the homeserver, made here and not by the SDK's client: the SDKs can neither stream, nor give a
 * transaction id, nor tell `Retry-After`. The access token leaves only through `homeserverUrlFor` and the header set
 * next to it, and redirects are never followed, so it reaches the homeserver and nothing else.
 */

/** An answer larger than this is not read on. A page of 100 events of 64 KiB fits. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 60_000;

/** Connections are kept alive, so that an event costs one round trip and not three. */
const dispatcher = new Agent({ connections: 256, connect: { timeout: 30_000 }, maxResponseSize: MAX_ANSWER_BYTES });

/** The same for uploads, which got sends. */
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
    const { statusCode, headers, text } = await answerOf(access, homeserverUrlFor(access, path, query), {
        method,
        ...(body !== undefined && { body: JSON.stringify(body) }),
        ...(signal !== undefined && { signal }),
        ...(timeoutMs !== undefined && { timeoutMs }),
    });
    return { status: statusCode, body: parseJsonObject(text), retryAfter: singleHeader(headers["retry-after"]) };
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

/** One exchange with the homeserver. Redirects are not followed. Throws MediaError where no answer came. */
export async function answerOf(
    access: Access,
    url: URL,
    { method, body, signal, timeoutMs = DEFAULT_TIMEOUT_MS, readsSuccess = true }: RawRequest,
): Promise<{ statusCode: number; headers: Readonly<Record<string, string | string[] | undefined>>; text: string }> {
    const tooLate = new MediaError("HOMESERVER_UNREACHABLE", { detail: "no answer in time", ambiguous: true });
    const abort = new LinkedAbort(signal === undefined ? [] : [signal], { ms: timeoutMs, reason: tooLate });
    try {
        const answer = await httpRequest(url, {
            method,
            dispatcher,
            signal: abort.signal,
            headers: { ...authorization(access), ...(body !== undefined && { "content-type": "application/json" }) },
            ...(body !== undefined && { body }),
            // The limit for the whole exchange is ours.
            headersTimeout: 0,
            bodyTimeout: 0,
        });
        const { statusCode, headers } = answer;
        if (readsSuccess || statusCode >= 400) return { statusCode, headers, text: await answer.body.text() };
        answer.body.on("error", () => {});
        answer.body.destroy();
        return { statusCode, headers, text: "" };
    } catch (cause) {
        if (systemCode(cause) === "UND_ERR_RES_EXCEEDED_MAX_SIZE")
            throw new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "answer too large", ambiguous: true, cause });
        throw connectionError(cause, "HOMESERVER_UNREACHABLE", abort.signal);
    } finally {
        abort.release();
    }
}

function singleHeader(value: string | string[] | undefined): string | undefined {
    return typeof value === "string" ? value : value?.[0];
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
