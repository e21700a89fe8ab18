import type { ByteStream } from "./source.ts";

/** A stream whose beginning has been looked at: whoever reads it gets it whole. */
export class PeekedStream implements ByteStream {
    readonly #stream: ByteStream;
    readonly #chunks: AsyncIterator<Uint8Array>;
    /** Looked at already, or being read when the looking ended. */
    readonly #pending: Promise<IteratorResult<Uint8Array>>[] = [];
    readonly #head: Uint8Array[] = [];

    constructor(stream: ByteStream) {
        this.#stream = stream;
        this.#chunks = stream[Symbol.asyncIterator]();
    }

    /** The first bytes: `max` of them, or all there are, or what has come until `signal` aborts. */
    async head(max: number, signal: AbortSignal): Promise<Uint8Array> {
        const stopped = new Promise<undefined>((resolve) => {
            signal.addEventListener("abort", () => resolve(undefined), { once: true });
            if (signal.aborted) resolve(undefined);
        });
        for (let length = 0; length < max && !signal.aborted; ) {
            const next = this.#chunks.next();
            // Whoever reads the stream hears of an error.
            next.catch(() => {});
            this.#pending.push(next);
            const result = await Promise.race([next, stopped]).catch(() => undefined);
            if (result === undefined || result.done === true) break;
            this.#head.push(result.value);
            length += result.value.length;
        }
        return Buffer.concat(this.#head).subarray(0, max);
    }

    destroy(): void {
        this.#stream.destroy();
    }

    [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
        this.#head.length = 0;
        return {
            next: () => this.#pending.shift() ?? this.#chunks.next(),
            return: async () => {
                this.destroy();
                await this.#chunks.return?.();
                return { done: true, value: undefined };
            },
        };
    }
}
