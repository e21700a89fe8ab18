/**
 * How many bytes lie in a spool that two threads write to: each counts in a place of its own, so that what one has
 * counted can be forgotten when it has died.
 */
export class SpoolUsage {
    /** To be handed to the other thread, which counts with `SpoolUsage.ofOther()`. */
    readonly shared: SharedArrayBuffer;
    readonly #bytes: BigInt64Array;
    readonly #own: 0 | 1;

    constructor(shared = new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT), own: 0 | 1 = 0) {
        this.shared = shared;
        this.#bytes = new BigInt64Array(shared);
        this.#own = own;
    }

    static ofOther(shared: SharedArrayBuffer): SpoolUsage {
        return new SpoolUsage(shared, 1);
    }

    get bytes(): number {
        return Number(Atomics.load(this.#bytes, 0) + Atomics.load(this.#bytes, 1));
    }

    /** @param bytes Negative for what is removed. */
    add(bytes: number): void {
        Atomics.add(this.#bytes, this.#own, BigInt(bytes));
    }

    /** To be called when the other thread has ended. */
    forgetOther(): void {
        Atomics.store(this.#bytes, 1 - this.#own, 0n);
    }
}
