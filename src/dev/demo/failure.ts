import { MediaError } from "../../index.ts";

/** What a person can do something about: told as one sentence, without a stack trace. */
export class DemoFailure extends Error {
    readonly exitCode: number;

    constructor(sentence: string, options: { readonly exitCode?: number; readonly cause?: unknown } = {}) {
        super(sentence, { cause: options.cause });
        this.name = "DemoFailure";
        this.exitCode = options.exitCode ?? 1;
    }
}

/**
 * What went wrong in a few words. The component's and the demo's own errors are made to be read; of others it is the
 * innermost message: `fetch failed` says less than `connect ECONNREFUSED`.
 */
export function reasonOf(error: unknown): string {
    if (!(error instanceof Error)) return String(error);
    if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
    return error.cause === undefined || error instanceof DemoFailure || error instanceof MediaError
        ? error.message
        : reasonOf(error.cause);
}
