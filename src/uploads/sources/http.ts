import type { IncomingMessage } from "node:http";
import { PassThrough, type Readable, type Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { type ErrorCode, MediaError, systemCode } from "../../errors.ts";
import { limitedRequest } from "../limited-request.ts";
import type { StepLimits } from "../limits.ts";
import { type AddressPolicy, guardedAgents } from "./address-guard.ts";
import { filenameOf } from "./filename.ts";
import { type Hop, nextHop, redirectOf } from "./redirects.ts";
import { ResumingBody } from "./resuming-body.ts";
import type { OpenedSource, Source, SourceDescription } from "./source.ts";
import { statusError } from "./status-error.ts";

type HttpDescription = Extract<SourceDescription, { kind: "http" }>;

const MAX_REDIRECTS = 5;
const MAX_DISCARDED_BYTES = 64 * 1024;
const MAX_DISCARDING_MS = 5000;

/**
 * Fetches over HTTP. `Accept-Encoding: identity` is asked for: the length announced is then the length that arrives, and a
 * connection that breaks midway is taken up where it broke with `Range` and `If-Range` (RFC 9110 §13.1.5, §14.2) while the
 * upload stays open, when the source named a validator. A storage whose object was put there compressed says so all the
 * same: it is decoded, without a length, and begins anew where it breaks.
 */
export class HttpSource implements Source<HttpDescription> {
    readonly #agents: ReturnType<typeof guardedAgents>;
    readonly #limits: StepLimits;

    constructor(allowed: AddressPolicy, limits: StepLimits) {
        this.#agents = guardedAgents(allowed);
        this.#limits = limits;
    }

    async open(description: HttpDescription, signal: AbortSignal): Promise<OpenedSource> {
        const response = await this.#request(description, {}, signal);
        if (response.statusCode !== 200) {
            response.destroy();
            throw refusal(response);
        }
        const mimetype = response.headers["content-type"];
        const filename = filenameOf(response.headers["content-disposition"], description.url);
        const encoding = encodingOf(response, mimetype, filename);
        if (encoding !== undefined) return { stream: decoded(response, encoding), mimetype, filename };
        const size = contentLength(response);
        const ifRange = validator(response);
        if (size === undefined || ifRange === undefined) return { stream: response, size, mimetype, filename };
        const reopen = (offset: number) => this.#reopen(description, { offset, size, ifRange }, signal);
        return { stream: new ResumingBody({ first: response, size, reopen, signal }), size, mimetype, filename };
    }

    close(): void {
        this.#agents.http.destroy();
        this.#agents.https.destroy();
    }

    async #reopen(description: HttpDescription, rest: Rest, signal: AbortSignal): Promise<IncomingMessage> {
        const range = { range: `bytes=${rest.offset}-`, "if-range": rest.ifRange.value };
        const response = await this.#request(description, range, signal);
        if (response.statusCode === 206 && isRest(response, rest)) return response;
        response.destroy();
        // 200 answers an If-Range whose validator no longer holds: these are other bytes.
        throw response.statusCode === 200 || response.statusCode === 206
            ? new MediaError("SOURCE_CHANGED", { detail: "it does not resume where it broke off" })
            : refusal(response);
    }

    async #request(
        { url, headers = {} }: HttpDescription,
        extra: Readonly<Record<string, string>>,
        signal: AbortSignal,
    ): Promise<IncomingMessage> {
        const own = { ...extra, "accept-encoding": "identity", "user-agent": "matrix-bridge-media" };
        let hop: Hop = { url: new URL(url), isTrusted: true };
        for (let redirects = 0; ; redirects++) {
            const response = await this.#answer(hop.url, hop.isTrusted ? { ...headers, ...own } : own, signal);
            const location = redirectOf(response);
            if (location === undefined) return response;
            discard(response);
            if (redirects === MAX_REDIRECTS) throw new MediaError("SOURCE_TOO_MANY_REDIRECTS");
            hop = nextHop(hop, location);
        }
    }

    async #answer(url: URL, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<IncomingMessage> {
        const answer = new Promise<IncomingMessage>((resolve, reject) => {
            let response: IncomingMessage | undefined;
            const fail = (cause: unknown): void => {
                reject(cause);
                // For whoever reads by then.
                (response ?? request).destroy(sourceError(cause, signal));
            };
            const from = { method: "GET", url, headers, agents: this.#agents, limits: this.#limits, signal } as const;
            const request = limitedRequest(from, fail);
            request.once("response", (incoming) => {
                response = incoming;
                resolve(incoming);
            });
            request.end();
        });
        return answer.catch((error: unknown) => {
            throw sourceError(error, signal);
        });
    }
}

/** A page about a redirect is read to its end, for the connection's sake, where that comes soon. */
function discard(response: IncomingMessage): void {
    let left = MAX_DISCARDED_BYTES;
    const timer = setTimeout(() => response.destroy(), MAX_DISCARDING_MS);
    response.on("data", (chunk: Uint8Array) => {
        left -= chunk.length;
        if (left < 0) response.destroy();
    });
    response.once("close", () => clearTimeout(timer));
}

const DECODERS = new Map<string, () => Transform>([
    ["gzip", createGunzip],
    ["x-gzip", createGunzip],
    ["deflate", createInflate],
    ["br", createBrotliDecompress],
]);
/** Words that storages hand out because somebody wrote them there, over bytes that are as they are. */
const NO_ENCODING = /^(?:identity|none|binary|utf-?8|[78]bit|aws-chunked|)$/;
/** Archives that a server calls encoded because of what they are: whoever gets one expects it as it is. */
const GZIP_TYPE = /^application\/(?:x-)?(?:gzip|gunzip|gtar-compressed|compressed-tar|tgz)\b/i;
const GZIP_NAME = /\.t?gz$/i;

/** What has to be undone before the body is the file; undefined where nothing. */
function encodingOf(
    { headers }: IncomingMessage,
    mimetype: string | undefined,
    filename: string | undefined,
): string | undefined {
    const named = headers["content-encoding"]?.toLowerCase().split(",") ?? [];
    const encodings = named.map((name) => name.trim()).filter((name) => !NO_ENCODING.test(name));
    if (encodings.length === 0 || headers["content-length"] === "0") return undefined;
    const encoding = encodings.join(", ");
    const isArchive = GZIP_TYPE.test(mimetype ?? "") || GZIP_NAME.test(filename ?? "");
    return isArchive && DECODERS.get(encoding) === createGunzip ? undefined : encoding;
}

function decoded(response: IncomingMessage, encoding: string): Readable {
    const decoder = DECODERS.get(encoding)?.();
    if (decoder === undefined) {
        response.destroy();
        throw new MediaError("SOURCE_REFUSED", { detail: `content-encoding ${encoding}` });
    }
    const body = new PassThrough();
    for (const stream of [response, decoder]) stream.on("error", (error) => body.destroy(decodingError(error)));
    body.on("error", () => {});
    body.once("close", () => {
        decoder.destroy();
        response.destroy();
    });
    return response.pipe(decoder).pipe(body);
}

/** The connection's errors stay as they are. */
function decodingError(error: Error): Error {
    const code = systemCode(error) ?? "";
    if (code === "Z_BUF_ERROR") return new MediaError("SOURCE_LENGTH_MISMATCH", { cause: error, detail: code });
    const isDecoders = /^(?:Z_|ERR__|ERR_BROTLI)/.test(code);
    return isDecoders ? new MediaError("SOURCE_REFUSED", { cause: error, detail: code }) : error;
}

/** Bytes that will arrive; undefined where the source does not say or says something impossible. */
function contentLength({ headers }: IncomingMessage): number | undefined {
    const text = headers["content-length"];
    const size = text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    return Number.isSafeInteger(size) ? size : undefined;
}

/** What tells a body from another one, and the header that names it. */
interface Validator {
    readonly header: "etag" | "last-modified";
    readonly value: string;
}

/** A validator that If-Range may carry: a strong ETag, else the date of last modification. */
function validator({ headers }: IncomingMessage): Validator | undefined {
    if (headers["accept-ranges"] === "none") return undefined;
    const { etag, "last-modified": date } = headers;
    if (etag !== undefined && !etag.startsWith("W/")) return { header: "etag", value: etag };
    return date === undefined ? undefined : { header: "last-modified", value: date };
}

/** What is still to come of a body that broke off. */
interface Rest {
    readonly offset: number;
    /** Of the whole body. */
    readonly size: number;
    readonly ifRange: Validator;
}

/**
 * Whether a 206 goes on where the body broke off. A server that does not know If-Range sends the rest of whatever lies there
 * by now: what it names of that must not be another one's (RFC 9110 §15.3.7.3). Where it names nothing, it is believed.
 */
function isRest({ headers }: IncomingMessage, { offset, size, ifRange }: Rest): boolean {
    const [, start, total = "*"] = /^bytes (\d+)-\d*(?:\/(\d+))?/.exec(headers["content-range"] ?? "") ?? [];
    // Some proxies call a tag weak on its way.
    const named = headers[ifRange.header]?.replace(/^W\//, "") ?? ifRange.value;
    return start === String(offset) && (total === "*" || total === String(size)) && named === ifRange.value;
}

function refusal({ statusCode = 0, headers }: IncomingMessage): MediaError {
    return statusError(statusCode, headers["retry-after"]);
}

/** What an error of the HTTP client, or of the socket below it, stands for. @param otherwise Where it does not say. */
export function sourceError(error: unknown, signal: AbortSignal, otherwise?: ErrorCode): MediaError {
    if (signal.aborted && signal.reason instanceof MediaError) return signal.reason;
    for (let cause = error; cause instanceof Error; cause = cause.cause) {
        if (cause instanceof MediaError) return cause;
    }
    const detail = systemCode(error);
    const code = otherwise ?? (detail === "ETIMEDOUT" ? "SOURCE_TIMEOUT" : "SOURCE_UNAVAILABLE");
    return new MediaError(code, { cause: error, ...(detail !== undefined && { detail }) });
}
