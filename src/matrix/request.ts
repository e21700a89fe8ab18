import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { got } from "got";
import { type ErrorCode, MediaError, systemCode } from "../errors.ts";
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

async function exchange(access: Access, request: MatrixRequest): Promise<Answer> {
    const answering = got(homeserverUrlFor(access, request.path, request.query), {
        method: request.method,
        headers: authorization(access),
        ...(request.body !== undefined && { json: request.body }),
        agent: homeserverAgents,
        followRedirect: false,
        throwHttpErrors: false,
        retry: { limit: 0 },
        timeout: { request: request.timeoutMs ?? DEFAULT_TIMEOUT_MS },
        ...(request.signal !== undefined && { signal: request.signal }),
    });
    let tooLarge = false;
    void answering.on("downloadProgress", ({ transferred }) => {
        if (transferred <= MAX_ANSWER_BYTES) return;
        tooLarge = true;
        answering.cancel();
    });
    try {
        const response = await answering;
        return {
            status: response.statusCode,
            body: parseJsonObject(response.body),
            retryAfter: response.headers["retry-after"],
        };
    } catch (cause) {
        if (tooLarge)
            throw new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "answer too large", ambiguous: true });
        throw connectionError(cause, "HOMESERVER_UNREACHABLE", request.signal);
    }
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
const NEVER_CONNECTED = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);

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
