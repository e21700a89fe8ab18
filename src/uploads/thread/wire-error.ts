import { type ErrorCode, type ErrorDetails, MediaError, systemCode } from "../../errors.ts";

/**
 * Errors between threads. A structured clone of an error keeps its words and loses its class and fields, by which
 * everybody here tells what happened.
 */
export interface WireError {
    readonly name: string;
    readonly message: string;
    readonly stack: string | undefined;
    readonly cause: WireError | undefined;
    /** The system's code, `ECONNRESET` and its like. */
    readonly systemCode: string | undefined;
    /** Of a MediaError. */
    readonly media: ({ readonly code: ErrorCode } & ErrorDetails) | undefined;
}

/** Causes below this are left out: a chain may be a circle. */
const MAX_DEPTH = 8;

export function toWire(thrown: unknown, depth = 0): WireError {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    const { name, message, stack, cause } = error;
    return {
        name,
        message,
        // Not so where somebody has changed how stacks are made, and what it is then cannot always be cloned.
        stack: typeof stack === "string" ? stack : undefined,
        cause: cause === undefined || depth === MAX_DEPTH ? undefined : toWire(cause, depth + 1),
        systemCode: systemCode(error),
        media: error instanceof MediaError ? mediaFields(error) : undefined,
    };
}

export function fromWire({ name, message, stack, cause, systemCode, media }: WireError): Error {
    const under = cause === undefined ? {} : { cause: fromWire(cause) };
    const said = { message, ...(stack !== undefined && { stack }) };
    if (media !== undefined) return Object.assign(new MediaError(media.code, { ...media, ...under }), said);
    return Object.assign(new Error(message, under), {
        name,
        ...said,
        ...(systemCode !== undefined && { code: systemCode }),
    });
}

function mediaFields({ code, field, detail, status, errcode, retryAfterMs, limit, ambiguous }: MediaError) {
    return {
        code,
        ambiguous,
        ...(field !== undefined && { field }),
        ...(detail !== undefined && { detail }),
        ...(status !== undefined && { status }),
        ...(errcode !== undefined && { errcode }),
        ...(retryAfterMs !== undefined && { retryAfterMs }),
        ...(limit !== undefined && { limit }),
    };
}
