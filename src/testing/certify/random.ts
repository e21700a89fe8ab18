/** Numbers that follow from a seed, so that a schedule can be made again: mulberry32. */
export class Random {
    #state: number;

    constructor(seed: number) {
        this.#state = seed >>> 0;
    }

    /** At least 0, below 1. */
    next(): number {
        this.#state = (this.#state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
        mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    }

    /** A whole number below `end`. */
    below(end: number): number {
        return Math.floor(this.next() * end);
    }

    /** One of them, each as often as its weight says. */
    pick<T>(weighted: readonly (readonly [weight: number, value: T])[]): T {
        let left = this.next() * weighted.reduce((sum, [weight]) => sum + weight, 0);
        for (const [weight, value] of weighted) {
            left -= weight;
            if (left < 0) return value;
        }
        throw new RangeError("nothing to pick");
    }
}
