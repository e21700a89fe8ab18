import { MediaError } from "../../errors.ts";
import { unlessAborted } from "../../linked-abort.ts";
import type { ByteStream } from "./source.ts";

/**
 * A connector's stream, held to what a source's stream has to be: bytes, never silent for long, and over when `signal` aborts,
 * whether or not the connector has passed that on. The time runs only while somebody waits for bytes, so a slow homeserver
 * is not taken for a slow source.
 */
export class ConnectorStream implements ByteStream {
    readonly #stream: ByteStream;
    readonly #idleMs: number;
    readonly #signal: AbortSignal;

    constructor(stream: ByteStream, idleMs: number, signal: AbortSignal) {
        this.#stream = stream;
        this.#idleMs = idleMs;
        this.#signal = signal;
    }

    destroy(): void {
        // Some async iterables, such as a web ReadableStream, have no way to be ended from outside.
        if (typeof this.#stream.destroy === "function") this.#stream.destroy();
    }

    async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
        const chunks = this.#stream[Symbol.asyncIterator]();
        let ended = false;
        try {
            while (true) {
                const { done, value } = await this.#inTime(chunks.next());
                if (done === true) {
                    ended = true;
                    return;
                }
                if (!((value as unknown) instanceof Uint8Array))
                    throw new MediaError("SOURCE_UNAVAILABLE", { detail: "the connector's stream gave no bytes" });
                yield value;
            }
        } finally {
            if (!ended) {
                this.destroy();
                // Not awaited: a silent stream would never answer.
                chunks.return?.().catch(() => {});
            }
        }
    }

    #inTime<T>(next: Promise<T>): Promise<T> {
        const reason = () => new MediaError("SOURCE_TIMEOUT", { detail: "no bytes" });
        return unlessAborted(next, [this.#signal], { ms: this.#idleMs, reason });
    }
}
