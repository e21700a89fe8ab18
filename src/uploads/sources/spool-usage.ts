/** How many bytes lie in a spool, counted by every thread that writes to it. */
export class SpoolUsage {
    /** To be handed to other threads, which count with a `SpoolUsage` of their own on it. */
    readonly shared: SharedArrayBuffer;
    readonly #bytes: BigInt64Array;

    constructor(shared = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT)) {
        this.shared = shared;
        this.#bytes = new BigInt64Array(shared);
    }

    get bytes(): number {
        return Number(Atomics.load(this.#bytes, 0));
    }

    /** @param bytes Negative for what is removed. */
    add(bytes: number): void {
        Atomics.add(this.#bytes, 0, BigInt(bytes));
    }
}
