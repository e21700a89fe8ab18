import type { IncomingMessage } from "node:http";
import { PassThrough, type Readable, type Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { MediaError, systemCode } from "../../errors.ts";
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
        const reopen = (offset: number) => this.#reopen(description, offset, ifRange ?? "", signal);
        return {
            stream:
                size === undefined || ifRange === undefined
                    ? response
                    : new ResumingBody({ first: response, size, reopen, signal }),
            size,
            mimetype,
            filename,
        };
    }

    close(): void {
        this.#agents.http.destroy();
        this.#agents.https.destroy();
    }

    async #reopen(
        description: HttpDescription,
        offset: number,
        ifRange: string,
        signal: AbortSignal,
    ): Promise<IncomingMessage> {
        const range = { range: `bytes=${offset}-`, "if-range": ifRange };
        const response = await this.#request(description, range, signal);
        const start = /^bytes (\d+)-/.exec(response.headers["content-range"] ?? "")?.[1];
        if (response.statusCode === 206 && start === String(offset)) return response;
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

/** A validator that If-Range may carry: a strong ETag, else the date of last modification. */
function validator({ headers }: IncomingMessage): string | undefined {
    if (headers["accept-ranges"] === "none") return undefined;
    const { etag } = headers;
    if (etag !== undefined && !etag.startsWith("W/")) return etag;
    return headers["last-modified"];
}

function refusal({ statusCode = 0, headers }: IncomingMessage): MediaError {
    return statusError(statusCode, headers["retry-after"]);
}

/** What an error of the HTTP client, or of the socket below it, stands for. */
export function sourceError(error: unknown, signal: AbortSignal): MediaError {
    if (signal.aborted && signal.reason instanceof MediaError) return signal.reason;
    for (let cause = error; cause instanceof Error; cause = cause.cause) {
        if (cause instanceof MediaError) return cause;
    }
    const detail = systemCode(error);
    const code = detail === "ETIMEDOUT" ? "SOURCE_TIMEOUT" : "SOURCE_UNAVAILABLE";
    return new MediaError(code, { cause: error, ...(detail !== undefined && { detail }) });
}
