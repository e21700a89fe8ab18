import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { asMediaError, type MediaError, reasonOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { mayBeAProxys } from "../matrix/answer.ts";
import type { RightOfWay } from "../right-of-way.ts";
import { retryDelay } from "../uploads/retry.ts";
import type { Closing } from "./closing.ts";
import type { MessageRecord } from "./records.ts";

/** Requests at once, over all rooms. */
const MAX_REQUESTS = 32;

/** Whom a request is made for, as the log says it. */
export type RequestFor = Pick<MessageRecord, "sender"> & Partial<Pick<MessageRecord, "id" | "roomId">>;

/** Tries that a refusal without a Matrix code has: half a minute to a minute, or four where it asks to wait. Its room waits meanwhile. */
const REFUSED_TRIES = 8;

/**
 * Milliseconds until a request is repeated; undefined where its error is the last word.
 * @param refusals How many refusals without a Matrix code there were so far, this one not counted.
 */
export function nextTryIn(error: MediaError, attempt: number, refusals: number): number | undefined {
    if (error.retryable) return retryDelay(error, attempt);
    if (!mayBeAProxys(error) || refusals + 1 >= REFUSED_TRIES) return undefined;
    return retryDelay(error, refusals);
}

/** The requests that the rooms' lanes make: a bounded number at once, each repeated for as long as it takes. So are those that set pictures. */
export class HomeserverRequests {
    readonly #closing: Closing;
    readonly #logger: Logger;
    readonly #way: RightOfWay;
    readonly #places = new PQueue({ concurrency: MAX_REQUESTS });

    constructor({ closing, logger, way }: { closing: Closing; logger: Logger; way: RightOfWay }) {
        this.#way = way;
        this.#closing = closing;
        this.#logger = logger;
    }

    /** Makes one request when there is room for it. */
    one<T>(request: () => Promise<T>): Promise<T> {
        return this.#places.add(() => this.#way.first(request));
    }

    /** Repeats `action` while it fails with something that passes. */
    async untilAnswered<T>(
        { id, roomId, sender }: RequestFor,
        action: () => Promise<T>,
        stop?: AbortSignal,
    ): Promise<T> {
        let refusals = 0;
        for (let attempt = 0; ; attempt++) {
            try {
                return await action();
            } catch (thrown) {
                const error = asMediaError(thrown);
                this.#closing.signal.throwIfAborted();
                const delay = nextTryIn(error, attempt, refusals);
                if (delay === undefined) throw error;
                if (!error.retryable) refusals++;
                this.#logger.warn("A request to the homeserver failed and will be repeated", {
                    ...(id !== undefined && { id }),
                    ...(roomId !== undefined && { roomId }),
                    sender,
                    attempt,
                    ...reasonOf(error),
                    delay,
                });
                const { signal } = this.#closing;
                // Woken once by a withdrawal; whether the event is out has to be found out all the same.
                const woken = stop !== undefined && !stop.aborted ? stop : signal;
                await sleep(delay, undefined, { signal: woken }).catch(() => {});
                signal.throwIfAborted();
            }
        }
    }
}
