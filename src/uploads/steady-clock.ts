/**
 * Milliseconds since the epoch as they go by here: the time at which the process started, and what has passed since. For
 * waits, which must not grow by a month when the machine's clock is set back. What others say of time, such as when an
 * address ends, is compared with `Date.now()`.
 */
export function steadyNow(): number {
    return Math.round(performance.timeOrigin + performance.now());
}
