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
    const path = parsed.pathname
        .replace(BOT_TOKEN, "bot…")
        .replace(PATH_PARAMETERS, "$1…")
        .replace(TOKENS, "$1$2…")
        .replace(/[\w-]{40,}/g, withoutRandom)
        // What was made safe before, and is a URL again.
        .replaceAll("%E2%80%A6", "…");
    return `${parsed.protocol}//${parsed.host}${path}${query}`;
}

/** Nobody guesses forty characters of all three sorts; no checksum in hex is so, no UUID and no word. */
function withoutRandom(part: string): string {
    return /[a-z]/.test(part) && /[A-Z]/.test(part) && /\d/.test(part) ? "…" : part;
}

/** Characters: somebody's error may hold the whole of an answer. */
const MAX_SHOWN = 65_536;

/*
 * Every expression here takes time as its text is long: what repeats has one way to match, and what begins with a repetition
 * begins where a word does. `test/property/redact.test.ts` holds them to it.
 */

/** What a name ends with that never is another word's end: `access_token`, `accessToken`, `X-Amz-Signature`, `PHPSESSID`. */
const ENDINGS =
    "tokens?|passwords?|passwd|passphrase|secrets?|signature|credentials?|cookies?|awsaccesskeyid|googleaccessid|sess(?:ion)?[_-]?id|" +
    "(?:api|access|account|app|auth|client|consumer|encryption|functions|master|private|secret|session|shared|signing|storage|subscription)[_-]?key";
/** What has to be a name's whole last word: `sig` is Azure's, and none of `desig`. */
const WORDS = "(?<![a-z0-9])(?:sig|policy|pass|pwd|auth|sid|session|jwt|bearer)";
const AUTHORIZATION = "(?:authorization|x-auth)";
const NAMES = `(?:${ENDINGS}|${AUTHORIZATION}|${WORDS})`;
/** A key in a query is mostly a secret, as a word it is mostly none. */
const PARAMETER_NAMES = `(?:${NAMES}|(?<![a-z0-9])key)`;

/**
 * What stands in such quotes, on one line; also where it is cut off before the second of them: what follows that is no word.
 */
function quotedBy(quote: string): string {
    return `${quote}[^${quote}\\\\\\n]*(?:(?:\\\\.|${quote}(?=\\w))[^${quote}\\\\\\n]*)*(?:${quote}|[^\\n]*)`;
}
const QUOTED = `(?:${quotedBy('"')}|${quotedBy("'")}|${quotedBy("`")})`;
/** As `inspect` shows one with ends of lines in it. */
const JOINED = `${QUOTED}(?:\\s*\\+\\s*${QUOTED})*`;
const LIST = `\\[[^\\]"'\`]*(?:${QUOTED}[^\\]"'\`]*)*\\]?`;

/** In JSON, and as `inspect` shows an object or a map. */
const FIELDS = new RegExp(`(${NAMES}["'\`]?\\s*(?::|=>)\\s*)(${JOINED}|${LIST}|\\{[^{}]*\\}?)`, "gi");
/** In JSON that is a string of another: each of its quotes has a backslash, and each of its backslashes another. */
const FIELDS_WITHIN = new RegExp(
    `(${NAMES}\\\\"\\s*:\\s*\\\\")[^\\\\"]*(?:\\\\\\\\(?:\\\\[^]|[^\\\\])[^\\\\"]*)*`,
    "gi",
);

const COOKIE_VALUE = '(?:"[^"\\n]*"?|[^\\s;,"]*)(?:, \\d{1,2}[ -][a-z]{3}[ -]\\d{2,4} [\\d:]+ GMT)?';
const COOKIE = `(?!authorization)[^\\s;,=:"'<>{}]+=${COOKIE_VALUE}`;
/** All cookies of a line, of which only some say by their names that they are secrets; and as far as the last one. */
const COOKIES = new RegExp(
    `(\\bcookies?["'\`]?[ \\t]*[:=][ \\t]*)${COOKIE}(?:[;,][ \\t]*(?:${COOKIE}|(?:HttpOnly|Secure|Partitioned)\\b))*`,
    "gi",
);

/** No part of an id: `@token:example.org` is somebody, `#secret:example.org` a room. */
const NO_ID = "(?<![!@#$][^\\s:,;\"'(){}&]*)";
/** A line of a header, or one that looks so; the last group is the word after it. */
const HEADERS = new RegExp(
    `(?<![\\w-])([\\w-]*(?:${ENDINGS}|(?<=\\bx-)(?:key|session)))(?=\\\\*["'\`]?[ \\t]*:)${NO_ID}(\\\\*["'\`]?[ \\t]*:[ \\t]*)` +
        `(?![\\w-]+:[ \\t])([^\\s"'\`\\\\,;<>{}[\\]][^\\s"'\`,;<>]*)(?=(?:[ \\t]+(\\S{1,30}))?)`,
    "gi",
);

const CREDENTIAL = '[^\\s,;"]+(?:(?<==)"[^"\\n]*"?[^\\s,;"]*)*';
/** Not the next one's name. */
const ANOTHER = `(?![\\w-]*${AUTHORIZATION}["'\`]?[ \\t]*[:=]|[\\w-]+["'\`]?(?::|[ \\t]+[:=])[ \\t])`;
const AUTHORIZATIONS = new RegExp(
    `(${AUTHORIZATION}["'\`]?[ \\t]*[:=][ \\t]*)([^\\s"'\`,;<>{}[\\]]+)([ \\t]+${ANOTHER}${CREDENTIAL}(?:,[ \\t]*${ANOTHER}(?=[\\w-]+=)${CREDENTIAL})*)?`,
    "gi",
);
/** Of `Authorization: Token …`: the word itself is no secret. */
const SCHEME =
    /^(?:Bearer|Basic|Token|Digest|Bot|OAuth|Api-?Key|Key|Negotiate|NTLM|Hawk|MAC|Signature|SharedKey|AWS|AWS4-HMAC-SHA256|X-Matrix)$/i;

/** Also of a URL that stands there in part or percent-encoded; the last is a field of encoded JSON. */
const EQUALS = "(?: ?=(?![=>]) ?|%3D|%22%3A(?:%20)?%22)";
/** Up to where the next name begins. */
const VALUE = `[^&\\s;,]*(?:[;,](?!["']?[\\w-]+["']?[ \\t]*[:=])[^&\\s;,]*)*`;
const PARAMETERS = new RegExp(`(${PARAMETER_NAMES}${EQUALS})(?=[^&\\s…])(?:${QUOTED}|${VALUE})`, "gi");
/** As `;jsessionid=…`. */
const PATH_PARAMETERS = new RegExp(`(${PARAMETER_NAMES}(?:=|%3D))[^/;&]+`, "gi");

/** What says by its beginning that it is a token: Slack's, Synapse's and MAS', GitHub's, GitLab's, Google's, and any JWT. */
const TOKENS =
    /(?<![\w-])(?:(xox[a-z]-|xapp-|sy[tlr]_|gh[opsru]_|github_pat_|glpat-|AIza(?=[\w-]{30})|m(?:at|ct|ar)_(?=[A-Za-z\d]{20,}_))[\w-]{8,}|(eyJ)[\w-]+\.[\w-]+(?:\.[\w-]*)*)/g;
const PRIVATE_KEY = /(-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----)[^]*?(?=-----END |$)/g;
/** Of any other scheme than a file's or a page's. */
const USER_OF_URL = /:\/\/[^\s/?#"<>]*@/g;

/** An error's message with every URL in it made safe to show, and without the secrets that it names. */
export function redactText(text: string): string {
    const shown = text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}…`;
    // First what has an end of its own; a parameter goes as far as there is no space.
    return (
        shown
            // As far as a URL can reach: a query may hold quotes and brackets before its signature.
            .replace(/\b(?:https?|wss?|ftps?):\/\/[^\s"<>]+/gi, (url) => redactUrl(url))
            .replace(USER_OF_URL, "://…@")
            .replace(COOKIES, "$1…")
            .replace(FIELDS, (_, name: string, value: string) => name + withoutContent(value))
            .replace(FIELDS_WITHIN, "$1…")
            .replace(HEADERS, withoutHeader)
            .replace(/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, "$1 …")
            .replace(AUTHORIZATIONS, withoutAuthorization)
            .replace(PARAMETERS, "$1…")
            .replace(TOKENS, "$1$2…")
            .replace(PRIVATE_KEY, "$1…")
            .replace(BOT_TOKEN, "bot…")
    );
}

/** Keeps what it is put in: `"…"`, `[…]`, `{…}`. */
function withoutContent(value: string): string {
    const open = value.charAt(0);
    return `${open}…${{ "[": "]", "{": "}" }[open] ?? open}`;
}

function withoutHeader(line: string, name: string, colon: string, value: string, next: string | undefined): string {
    // Matrix' own codes: M_UNKNOWN_TOKEN.
    if (/^M_[A-Z_]+$/.test(name)) return line;
    // A password may be any word.
    const isName = /[-_]|pass|secret|[a-z][A-Z]/.test(name);
    return isNoSecret(value) || (!isName && isProse(value, next)) ? line : `${name}${colon}…`;
}

function withoutAuthorization(line: string, name: string, first: string, more: string | undefined): string {
    if (SCHEME.test(first)) return more === undefined ? line : `${name}${first} …`;
    return isNoSecret(first) || isProse(first, more?.trim().split(/\s/, 1)[0]) ? line : `${name}…`;
}

/** `token: expired`, `token: M_FORBIDDEN`, `"token": null`, an id or MXC URI; `token:12:5` is a place in a file. */
function isNoSecret(value: string): boolean {
    if (/^(?:M_[A-Z_]+|E[A-Z]{3,15})[.!)}]*$/.test(value) || /^(?:mxc:\/\/|[@!#][^\s:]+:[\w.-]+)/.test(value))
        return true;
    return /^(?:\d+:\d+|null|undefined|true|false|none|missing|expired|invalid|revoked|unknown|required|\[redacted\]|…)[.!)}]*$/i.test(
        value,
    );
}

/** Two words of a sentence: `does not know the token: check the registration`. */
function isProse(value: string, next: string | undefined): boolean {
    const word = /^[a-z]?[a-z]*(?:['’-][a-z]+)?[.!?)]*$/i;
    return next !== undefined && [value, next].every((part) => word.test(part) && !/[a-z][A-Z]|[A-Z]{2}/.test(part));
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
