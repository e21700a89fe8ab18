import { setTimeout as sleep } from "node:timers/promises";
import type { ByteStream } from "./source.ts";

/** How often a broken connection is resumed before the try is given up; progress resets the count. */
const MAX_RESUMES = 4;
const RESUME_DELAY_MS = 250;

export interface ResumingBodyParts {
    /** The body from its beginning. */
    readonly first: ByteStream;
    /** Its whole length in bytes. */
    readonly size: number;
    /** Opens the body again at an offset; rejects when it is not the same body any more. */
    readonly reopen: (offset: number) => Promise<ByteStream>;
    readonly signal: AbortSignal;
}

/** A body that is taken up where its connection broke, so that whoever reads it does not notice. */
export class ResumingBody implements ByteStream {
    readonly #parts: ResumingBodyParts;
    #current: ByteStream;
    #isDestroyed = false;

    constructor(parts: ResumingBodyParts) {
        this.#parts = parts;
        this.#current = parts.first;
    }

    destroy(): void {
        this.#isDestroyed = true;
        this.#current.destroy();
    }

    async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
        const { size, reopen, signal } = this.#parts;
        let offset = 0;
        let resumes = 0;
        while (true) {
            const from = offset;
            try {
                for await (const chunk of this.#current) {
                    offset += chunk.length;
                    yield chunk;
                }
                return;
            } catch (error) {
                if (offset > from) resumes = 0;
                if (signal.aborted || offset >= size || ++resumes > MAX_RESUMES) throw error;
                await sleep(RESUME_DELAY_MS * 2 ** (resumes - 1), undefined, { signal });
                // Destroyed meanwhile: nobody reads on.
                if (this.#isDestroyed) throw error;
            }
            this.#current = await reopen(offset);
            if (this.#isDestroyed) this.#current.destroy();
        }
    }
}
