/**
 * Milliseconds since the epoch as they go by here: the time at which the process started, and what has passed since. For
 * waits, and for how long something is doubted, which must neither grow nor end by a month when the machine's clock is
 * turned. It stands still while the machine sleeps, and begins anew with each process, so what is journaled goes by
 * `Date.now()` (but for waits, which have a longest), and so does what others say of time, such as when an address ends.
 */
export function steadyNow(): number {
    return Math.round(performance.timeOrigin + performance.now());
}

/**
 * For how long what others may change is believed. Over when either clock says so: this one stands still while the machine
 * sleeps, and the others do not.
 */
export class Term {
    readonly #steady: number;
    readonly #other: number;

    constructor(ms: number) {
        this.#steady = steadyNow() + ms;
        this.#other = Date.now() + ms;
    }

    get isOver(): boolean {
        return steadyNow() >= this.#steady || Date.now() >= this.#other;
    }
}
