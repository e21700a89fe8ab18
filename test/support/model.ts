import type fc from "fast-check";

/** `MODEL_RUNS=10` runs every model ten times as often; `MODEL_SEED=…` repeats a run. A failure prints its seed. */
export function bounded(runs: number): fc.Parameters<unknown> {
    const factor = Number(process.env["MODEL_RUNS"] ?? 1);
    const seed = process.env["MODEL_SEED"];
    return {
        numRuns: Math.max(1, Math.round(runs * factor)),
        // A model is not shrunk for ever: it has real sockets below.
        interruptAfterTimeLimit: 20_000 * Math.max(1, factor),
        markInterruptAsFailure: false,
        ...(seed !== undefined && { seed: Number(seed) }),
    };
}

/** Moves `Date.now()` and `performance.now()` on; timers stay as they are, so whoever waits has to be poked. */
export class Clock {
    readonly #real = Date.now;
    readonly #realSince = performance.now.bind(performance);
    #ahead = 0;

    constructor() {
        Date.now = () => this.#real() + this.#ahead;
        performance.now = () => this.#realSince() + this.#ahead;
    }

    advance(ms: number): void {
        this.#ahead += ms;
    }

    restore(): void {
        Date.now = this.#real;
        performance.now = this.#realSince;
    }
}
