/** After `ms` milliseconds it aborts with what `reason` makes: an error costs its stack, and is hardly ever wanted. */
export interface AbortLimit {
    readonly ms: number;
    readonly reason: () => unknown;
}

/**
 * An abort signal that follows others, and a time limit, until it is released.
 *
 * `AbortSignal.any()` and `AbortSignal.timeout()` say the same, but Node.js keeps a combined signal that somebody listens
 * to until it aborts or its time is over, so that memory would grow with every transfer that ends well.
 */
export class LinkedAbort {
    readonly #controller = new AbortController();
    readonly #parents: readonly AbortSignal[];
    readonly #timer: NodeJS.Timeout | undefined;
    readonly #follow = ({ target }: Event): void => this.abort((target as AbortSignal).reason);

    constructor(parents: readonly AbortSignal[], limit?: AbortLimit) {
        this.#parents = parents;
        for (const parent of parents) {
            if (parent.aborted) this.abort(parent.reason);
            else parent.addEventListener("abort", this.#follow);
        }
        if (limit !== undefined) this.#timer = setTimeout(() => this.abort(limit.reason()), limit.ms);
    }

    get signal(): AbortSignal {
        return this.#controller.signal;
    }

    /** Rejects with the reason when it aborts, for a race with something that knows no signals. */
    aborted(): Promise<never> {
        const { signal } = this;
        return new Promise((_resolve, reject) => {
            const rejectNow = (): void => reject(signal.reason as Error);
            if (signal.aborted) rejectNow();
            else signal.addEventListener("abort", rejectNow, { once: true });
        });
    }

    abort(reason?: unknown): void {
        this.#controller.abort(reason);
    }

    /** Lets go of the parents and of the timer. To be called when what it guards has ended. */
    release(): void {
        clearTimeout(this.#timer);
        for (const parent of this.#parents) parent.removeEventListener("abort", this.#follow);
    }
}

/** Has a controller abort with a signal, of which nobody hears again once what it is for has ended. */
export function abortWith(signal: AbortSignal, controller: AbortController): void {
    const follow = (): void => controller.abort(signal.reason);
    if (signal.aborted) follow();
    else signal.addEventListener("abort", follow, { once: true });
}

/** The outcome of what knows no signals, unless one of `signals` aborts or its time is over before: then it rejects with the reason. */
export async function unlessAborted<T>(
    outcome: Promise<T>,
    signals: readonly AbortSignal[],
    limit?: AbortLimit,
): Promise<T> {
    const abort = new LinkedAbort(signals, limit);
    try {
        return await Promise.race([outcome, abort.aborted()]);
    } finally {
        abort.release();
    }
}
