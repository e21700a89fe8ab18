import { setTimeout as sleep } from "node:timers/promises";
import PQueue from "p-queue";
import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { RightOfWay } from "../right-of-way.ts";
import { retryDelay } from "../uploads/retry.ts";
import type { Closing } from "./closing.ts";

/** Requests at once, over all rooms. */
const MAX_REQUESTS = 32;

/** The requests that the rooms' lanes make: a bounded number at once, each repeated for as long as it takes. */
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
    async untilAnswered<T>(what: string, action: () => Promise<T>, stop?: AbortSignal): Promise<T> {
        for (let attempt = 0; ; attempt++) {
            try {
                return await action();
            } catch (thrown) {
                const error = asMediaError(thrown);
                this.#closing.signal.throwIfAborted();
                if (!error.retryable) throw error;
                const delay = retryDelay(error, attempt);
                this.#logger.warn("A request to the homeserver failed and will be repeated", {
                    what,
                    attempt,
                    code: error.code,
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
