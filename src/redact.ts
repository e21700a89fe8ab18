import { isNativeError } from "node:util/types";

/**
 * The one place that decides what of a secret may be seen. Logs, errors, metrics and job listings pass what could
 * carry a token, a presigned query or a password through here.
 */

/** Telegram's: the bot's token stands in the path of every file. */
const BOT_TOKEN = /\bbot\d+(?::|%3A)[\w-]{30,}/gi;
/**
 * A URL as it may be shown: without user, password, query and fragment, and without what in its path looks like a secret.
 * What is no URL shows as `[not a URL]`.
 */
export function redactUrl(url: string | URL): string {
    let parsed: URL;
    try {
        parsed = new URL(url);
    } catch {
        return "[not a URL]";
    }
    const query = parsed.search === "" ? "" : "?…";
    // What is a bare origin stays one: the option that is named by it takes no slash.
    if (/^https?:\/\/[^/?#@]+$/i.test(String(url))) return parsed.origin;
    const path = parsed.pathname.replace(BOT_TOKEN, "bot…").replace(/[\w-]{40,}/g, withoutRandom);
    return `${parsed.protocol}//${parsed.host}${path}${query}`;
}

/** Nobody guesses forty characters of all three sorts; no checksum in hex is so, no UUID and no word. */
function withoutRandom(part: string): string {
    return /[a-z]/.test(part) && /[A-Z]/.test(part) && /\d/.test(part) ? "…" : part;
}

/** As the last word of a name: `access_token`, `X-Amz-Signature`, `x-api-key`. */
const SECRET_NAMES =
    "(?<![a-z0-9])(token|password|secret|api[_-]?key|authorization|signature|sig|credential|policy|awsaccesskeyid|googleaccessid)";
const SECRET_PARAMETERS = new RegExp(`${SECRET_NAMES}(=|%3D)[^&\\s]+`, "gi");
/** In JSON, and as `inspect` shows an object. */
const SECRET_FIELDS = new RegExp(`${SECRET_NAMES}(["']?\\s*:\\s*)(["'\`])(?:\\\\.|(?!\\3)[^\\\\])*\\3`, "gi");

/** An error's message with every URL in it made safe to show. */
export function redactText(text: string): string {
    return (
        text
            // As far as a URL can reach: a query may hold quotes and brackets before its signature.
            .replace(/\bhttps?:\/\/[^\s"<>]+/gi, (url) => redactUrl(url))
            .replace(/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, "$1 …")
            // Also of a URL that stands there in part or percent-encoded. `sig` is Azure's, the others are S3's and its like.
            .replace(SECRET_PARAMETERS, "$1$2…")
            .replace(SECRET_FIELDS, "$1$2$3…$3")
            .replace(BOT_TOKEN, "bot…")
    );
}

/** What a log may show of something thrown. */
export interface Loggable {
    /** Of what is no error: `object`, `string`, and nothing of what it holds. */
    readonly kind?: string;
    readonly name?: string;
    readonly code?: string;
    readonly message?: string;
    readonly status?: number;
    readonly stack?: string;
    readonly cause?: Loggable;
}

/** Causes below this are left out: a chain may be a circle. */
const MAX_CAUSES = 5;

/**
 * Anything thrown, as a log line may have it: no line is given the thrown thing itself. A connector's error quotes the address
 * and the headers that it asked with, and an SDK throws a homeserver's whole answer, the request and its token included.
 * Never throws: it is called where an error has just been dealt with.
 */
export function loggable(thrown: unknown): Loggable {
    return loggableTo(MAX_CAUSES, thrown);
}

function loggableTo(depth: number, thrown: unknown): Loggable {
    try {
        if (!(thrown instanceof Error) && !isNativeError(thrown))
            return { kind: thrown === null ? "null" : typeof thrown };
        const { name, message, stack, cause, code, status }: { [field in keyof Loggable]?: unknown } = thrown;
        const isOurs = name === "MediaError";
        return {
            name: redactText(String(name)),
            ...(typeof code === "string" && /^[A-Z][A-Z0-9_]{1,63}$/.test(code) && { code }),
            message: redactText(String(message)),
            ...(typeof status === "number" && { status }),
            // The code says where ours comes from.
            ...(!isOurs && typeof stack === "string" && { stack: redactText(stack) }),
            ...(cause !== undefined && depth > 0 && { cause: loggableTo(depth - 1, cause) }),
        };
    } catch {
        return { kind: "unreadable" };
    }
}
