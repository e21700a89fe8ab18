import fc from "fast-check";

/** A model is not shrunk for ever: it has real sockets below. */
const LIMIT_MS = 20_000;
/** For the run under way at the limit to come to its end. */
const GRACE_MS = 60_000;

interface Bounds {
    readonly limitMs?: number;
    readonly graceMs?: number;
}

/**
 * `fc.assert` within a time: `MODEL_RUNS=10` runs every model ten times as often; `MODEL_SEED=…` repeats a run. A failure
 * prints its seed. The run under way when the time is over is waited for and counts as any other.
 */
export function assertBounded<T>(property: fc.IAsyncProperty<T>, runs: number, bounds?: Bounds): Promise<void>;
export function assertBounded<T>(property: fc.IProperty<T>, runs: number, bounds?: Bounds): void;
export function assertBounded<T>(
    property: fc.IAsyncProperty<T> | fc.IProperty<T>,
    runs: number,
    { limitMs = LIMIT_MS, graceMs = GRACE_MS }: Bounds = {},
): Promise<void> | void {
    const factor = fromEnvironment("MODEL_RUNS") ?? 1;
    const seed = fromEnvironment("MODEL_SEED");
    const parameters = {
        numRuns: Math.max(1, Math.round(runs * factor)),
        interruptAfterTimeLimit: limitMs * Math.max(1, factor),
        markInterruptAsFailure: false,
        ...(seed !== undefined && { seed }),
    };
    return property.isAsync()
        ? assertToTheEnd(property as fc.IAsyncProperty<T>, parameters, graceMs)
        : fc.assert(property as fc.IProperty<T>, parameters);
}

/** fast-check leaves the run that its limit cuts off to itself, and passes without it. */
async function assertToTheEnd<T>(
    property: fc.IAsyncProperty<T>,
    parameters: fc.Parameters<T>,
    graceMs: number,
): Promise<void> {
    const run = property.run.bind(property);
    let last: { readonly value: T; readonly outcome: ReturnType<typeof run> } | undefined;
    property.run = (value) => {
        last = { value, outcome: run(value) };
        return last.outcome;
    };
    const [asserted] = await Promise.allSettled([fc.assert(property, parameters)]);
    // Else its world is closed under it.
    const outcome = last && (await within(graceMs, last.outcome));
    if (asserted.status === "rejected") throw asserted.reason;
    if (outcome === "hangs") throw new Error(`The run that the time limit cut off hangs: ${fc.stringify(last?.value)}`);
    if (outcome && "error" in outcome)
        throw new Error(`The run that the time limit cut off fails: ${fc.stringify(last?.value)}`, {
            cause: outcome.error,
        });
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T | "hangs"> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"hangs">((resolve) => (timer = setTimeout(resolve, ms, "hangs")));
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function fromEnvironment(name: string): number | undefined {
    const text = process.env[name];
    if (text === undefined) return undefined;
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value)) throw new RangeError(`${name}=${text} is no number`);
    return value;
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
