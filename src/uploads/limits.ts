/** Time limits of a transfer's steps, in milliseconds. */
export interface StepLimits {
    /** For resolving a name, for connecting, for the TLS handshake: each. */
    readonly connectMs: number;
    /** From the request until the answer's headers. After an upload it is a second for each 4 MiB of it, where that is longer, and so is `idleMs`. */
    readonly headersMs: number;
    /** Without a single byte in either direction. */
    readonly idleMs: number;
    /** For one whole try of a transfer. */
    readonly totalMs: number;
}

/** Every time limit that can be set. */
export interface TimeLimits extends StepLimits {
    /** For looking at a file before its message is sent (`probeHeaders`). */
    readonly probeMs: number;
}

/** How many bytes a body may have. */
export interface ByteLimits {
    /** Exact length where it is known. */
    readonly size: number | undefined;
    readonly maxBytes: number;
}
