import type { IncomingMessage } from "node:http";
import { got, type Request } from "got";
import { MediaError, systemCode } from "../../errors.ts";
import type { StepLimits } from "../limits.ts";
import { type AddressPolicy, guardedAgents } from "./address-guard.ts";
import { filenameOf } from "./filename.ts";
import { ResumingBody } from "./resuming-body.ts";
import type { OpenedSource, Source, SourceDescription } from "./source.ts";
import { statusError } from "./status-error.ts";

type HttpDescription = Extract<SourceDescription, { kind: "http" }>;

const MAX_REDIRECTS = 5;

/**
 * Fetches over HTTP. The body is passed on as it is on the wire (`Accept-Encoding: identity`, no decompression): the
 * length announced is then the length that arrives. A connection that breaks midway is taken up where it broke with
 * `Range` and `If-Range` (RFC 9110 §13.1.5, §14.2) while the upload stays open, when the source named a validator.
 */
export class HttpSource implements Source<HttpDescription> {
    readonly #agents: ReturnType<typeof guardedAgents>;
    readonly #limits: StepLimits;

    constructor(allowed: AddressPolicy, limits: StepLimits) {
        this.#agents = guardedAgents(allowed);
        this.#limits = limits;
    }

    async open(description: HttpDescription, signal: AbortSignal): Promise<OpenedSource> {
        const first = await this.#request(description, {}, signal);
        const { response } = first;
        if (response.statusCode !== 200) {
            first.stream.destroy();
            throw refusal(response);
        }
        const size = contentLength(response);
        const ifRange = validator(response);
        const { stream } = first;
        const reopen = (offset: number) => this.#reopen(description, offset, ifRange ?? "", signal);
        return {
            stream:
                size === undefined || ifRange === undefined
                    ? stream
                    : new ResumingBody({ first: stream, size, reopen, signal }),
            size,
            mimetype: response.headers["content-type"],
            filename: filenameOf(response.headers["content-disposition"], description.url),
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
    ): Promise<Request> {
        const range = { range: `bytes=${offset}-`, "if-range": ifRange };
        const { response, stream } = await this.#request(description, range, signal);
        const start = /^bytes (\d+)-/.exec(response.headers["content-range"] ?? "")?.[1];
        if (response.statusCode === 206 && start === String(offset)) return stream;
        stream.destroy();
        // 200 answers an If-Range whose validator no longer holds: these are other bytes.
        throw response.statusCode === 200 || response.statusCode === 206
            ? new MediaError("SOURCE_CHANGED", { detail: "it does not resume where it broke off" })
            : refusal(response);
    }

    async #request(description: HttpDescription, extra: Record<string, string>, signal: AbortSignal): Promise<Opened> {
        const { connectMs, headersMs, idleMs } = this.#limits;
        const origin = new URL(description.url).origin;
        let secure = origin.startsWith("https:");
        const stream = got.stream(description.url, {
            headers: {
                ...description.headers,
                ...extra,
                "accept-encoding": "identity",
                "user-agent": "matrix-bridge-media",
            },
            decompress: false,
            agent: this.#agents,
            signal,
            maxRedirects: MAX_REDIRECTS,
            throwHttpErrors: false,
            retry: { limit: 0 },
            timeout: {
                lookup: connectMs,
                connect: connectMs,
                secureConnect: connectMs,
                response: headersMs,
                socket: idleMs,
            },
            hooks: {
                beforeRedirect: [
                    (options) => {
                        const next = options.url as URL;
                        if (secure && next.protocol !== "https:") {
                            throw new MediaError("SOURCE_REFUSED", { detail: "redirected from https to http" });
                        }
                        secure = next.protocol === "https:";
                        if (next.origin !== origin) {
                            // What the URL itself carried as user and password; got counts another scheme as the same.
                            options.username = "";
                            options.password = "";
                            for (const name of Object.keys(description.headers ?? {})) {
                                delete options.headers[name.toLowerCase()];
                            }
                        }
                    },
                ],
            },
        });
        const response = await new Promise<IncomingMessage>((resolve, reject) => {
            stream.once("response", resolve);
            stream.once("error", (error: Error) => reject(sourceError(error, signal)));
        });
        // From here on errors reach whoever reads; without a listener one between two reads would end the process.
        stream.on("error", () => {});
        return { stream, response };
    }
}

interface Opened {
    readonly stream: Request;
    readonly response: IncomingMessage;
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
    if (detail === "ERR_TOO_MANY_REDIRECTS") return new MediaError("SOURCE_TOO_MANY_REDIRECTS", { cause: error });
    if (detail === "ERR_UNSUPPORTED_PROTOCOL" || detail === "ERR_INVALID_URL") {
        return new MediaError("SOURCE_REFUSED", { cause: error, detail: "redirected to something other than http(s)" });
    }
    const code = detail === "ETIMEDOUT" ? "SOURCE_TIMEOUT" : "SOURCE_UNAVAILABLE";
    return new MediaError(code, { cause: error, ...(detail !== undefined && { detail }) });
}
