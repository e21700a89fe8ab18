import { type ErrorCode, type ErrorDetails, MediaError } from "../errors.ts";

export type JsonObject = { readonly [key: string]: unknown };

/** An answer of the homeserver, its body already parsed; `{}` where it was no JSON object. */
export interface Answer {
    readonly status: number;
    readonly body: JsonObject;
    /** False where there was no JSON object: it is not the homeserver that answers, whatever the status. @default true */
    readonly isJson?: boolean;
    /** The `Retry-After` header as sent. */
    readonly retryAfter?: string | undefined;
}

/** The codes an endpoint gives to the refusals whose meaning depends on what was asked. */
export interface RefusalCodes {
    readonly tooLarge: ErrorCode;
    readonly refused: ErrorCode;
    /**
     * To a 404 or 405 without a Matrix code: mostly a proxy's, before a homeserver that is not there just now.
     * @default `refused`
     */
    readonly unexplained?: ErrorCode;
}

/** Of the endpoints that every homeserver has: rooms, events, profiles. */
export const EVENT_REFUSALS: RefusalCodes = {
    tooLarge: "EVENT_TOO_LARGE",
    refused: "EVENT_REFUSED",
    unexplained: "HOMESERVER_ANSWER_INVALID",
};

/** Of uploads. In a completion, 413 is said of the file, and any other refusal of the object in the storage. */
export const UPLOAD_REFUSALS: RefusalCodes = {
    tooLarge: "FILE_TOO_LARGE",
    refused: "UPLOAD_REFUSED",
    unexplained: "HOMESERVER_ANSWER_INVALID",
};

export function isSuccess(status: number): boolean {
    return status >= 200 && status < 300;
}

/** Reads a JSON object without trusting it; anything else is `{}`. */
export function parseJsonObject(text: string): JsonObject {
    return jsonBody(text).body;
}

/** The same as an answer's fields, which tell an empty object from what is none. */
export function jsonBody(text: string): Required<Pick<Answer, "body" | "isJson">> {
    try {
        const value: unknown = JSON.parse(text);
        const isJson = typeof value === "object" && value !== null && !Array.isArray(value);
        return { body: isJson ? (value as JsonObject) : {}, isJson };
    } catch {
        return { body: {}, isJson: false };
    }
}

/**
 * The error that an answer outside 2xx stands for. Spec: Client-Server API, "Standard error response"; the quota codes
 * are Synapse's (400 M_RESOURCE_LIMIT_EXCEEDED, since 1.140 403 M_USER_LIMIT_EXCEEDED).
 */
export function answerError({ status, body, retryAfter }: Answer, codes: RefusalCodes): MediaError {
    const errcode = errcodeOf(body["errcode"]);
    const retryAfterMs = toldWaitMs(body["retry_after_ms"], retryAfter);
    const details: ErrorDetails = {
        status,
        detail: errcode === undefined ? `HTTP ${status}` : `HTTP ${status} ${errcode}`,
        ...(errcode !== undefined && { errcode }),
        ...(retryAfterMs !== undefined && { retryAfterMs }),
    };
    if (errcode === undefined) {
        if (PASSING.has(status)) return new MediaError("HOMESERVER_FAILING", { ...details, ambiguous: true });
        if ((status === 404 || status === 405) && codes.unexplained !== undefined)
            return new MediaError(codes.unexplained, { ...details, ambiguous: true });
    }
    return new MediaError(refusalCode(status, errcode, codes), details);
}

/** What a proxy says of a request that it has not got through: a timeout, too early, the wrong connection (RFC 9110 §15.5.9, §15.5.20; RFC 8470). */
const PASSING = new Set([408, 421, 425]);
/** Sizes, which a proxy limits for good. */
const SIZES = new Set([413, 414]);
const REFUSALS = new Set<ErrorCode>(["EVENT_REFUSED", "UPLOAD_REFUSED", "FORBIDDEN"]);

/**
 * Whether a refusal may be a firewall's or a proxy's: it has no Matrix code, and each of a homeserver's has one (spec: "Standard
 * error response"). It may pass, and it may be repeated for ever: so it is worth a number of tries, and then believed.
 */
export function mayBeAProxys({ code, status, errcode }: MediaError): boolean {
    return REFUSALS.has(code) && errcode === undefined && status !== undefined && !SIZES.has(status);
}

/** Whether it is worth another try, if only some of them. */
export function mayPass(error: MediaError): boolean {
    return error.retryable || mayBeAProxys(error);
}

/** Undefined for what is no code: it would stand in every log line and in the journal. Spec: "Common Namespaced Identifier Grammar". */
function errcodeOf(value: unknown): string | undefined {
    return typeof value === "string" && /^[\w.-]{1,255}$/.test(value) ? value : undefined;
}

function refusalCode(status: number, errcode: string | undefined, codes: RefusalCodes): ErrorCode {
    if (status === 429 || errcode === "M_LIMIT_EXCEEDED") return "HOMESERVER_RATE_LIMITED";
    if (status >= 500) return "HOMESERVER_FAILING";
    if (status === 401) return "HOMESERVER_TOKEN_REFUSED";
    if (errcode === "M_UNRECOGNIZED") return "NOT_SUPPORTED";
    if (errcode === "M_RESOURCE_LIMIT_EXCEEDED" || errcode === "M_USER_LIMIT_EXCEEDED") return "QUOTA_EXCEEDED";
    if (status === 413 || errcode === "M_TOO_LARGE") return codes.tooLarge;
    if (status === 403) return "FORBIDDEN";
    if (status >= 400) return codes.refused;
    return "HOMESERVER_ANSWER_INVALID";
}

/**
 * How long the other side asked to wait, in milliseconds: Matrix' `retry_after_ms` before the `Retry-After` header
 * (RFC 9110 §10.2.3: seconds or a date). Undefined where neither makes sense.
 */
export function toldWaitMs(bodyValue: unknown, header: string | undefined, now = Date.now()): number | undefined {
    if (typeof bodyValue === "number" && Number.isFinite(bodyValue) && bodyValue >= 0) return bodyValue;
    if (header === undefined) return undefined;
    const seconds = Number(header);
    if (header.trim() !== "" && Number.isFinite(seconds * 1000) && seconds >= 0) return seconds * 1000;
    const date = Date.parse(header);
    return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
