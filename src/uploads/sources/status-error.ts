import { MediaError } from "../../errors.ts";
import { toldWaitMs } from "../../matrix/answer.ts";
import { property, thrownStatus } from "../../matrix/thrown-answer.ts";

/** What an HTTP status that is no file stands for, whoever made the request: this package or a connector. */
export function statusError(status: number, retryAfter?: string): MediaError {
    const retryAfterMs = toldWaitMs(undefined, retryAfter);
    const details = { status, detail: `HTTP ${status}`, ...(retryAfterMs !== undefined && { retryAfterMs }) };
    if (status === 404 || status === 410) return new MediaError("SOURCE_NOT_FOUND", details);
    if (status === 401 || status === 403) return new MediaError("SOURCE_FORBIDDEN", details);
    if (status === 408) return new MediaError("SOURCE_TIMEOUT", details);
    if (status === 429) return new MediaError("SOURCE_RATE_LIMITED", details);
    if (status >= 500) return new MediaError("SOURCE_UNAVAILABLE", details);
    return new MediaError("SOURCE_REFUSED", details);
}

/**
 * Anything that a connector threw. A MediaError of its own choosing is kept; an error of its HTTP client is read by its
 * status (`status`, `statusCode` or `httpStatus`, of the error or of its `response`); the rest may pass, and so is tried again.
 */
export function connectorError(thrown: unknown): MediaError {
    if (thrown instanceof MediaError) return thrown;
    const status = thrownStatus(thrown);
    if (status !== undefined && status >= 400) {
        const { code, retryAfterMs } = statusError(status, retryAfterOf(thrown, property(thrown, "response")));
        const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
        return new MediaError(code, { status, detail: `HTTP ${status}`, cause: thrown, ...wait });
    }
    return new MediaError("SOURCE_UNAVAILABLE", { cause: thrown });
}

/** From a plain object of headers, or from one that is asked with `get()`. */
function retryAfterOf(...holders: readonly unknown[]): string | undefined {
    for (const holder of holders) {
        const headers = property(holder, "headers");
        const value = headers instanceof Headers ? headers.get("retry-after") : property(headers, "retry-after");
        if (typeof value === "string") return value;
    }
    return undefined;
}
