import { setMaxListeners } from "node:events";
import { MediaError } from "../errors.ts";

/** How long requests that are on their way have when the component closes. */
const GRACE_MS = 5000;

/**
 * How work that talks to the homeserver ends: nothing new begins once `signal` aborts, and what is on its way is cut off
 * by `cutOff` only a while later. Cutting it off midway leaves an event in doubt, or an MXC that nobody heard of.
 */
export class Closing {
    readonly #begun = new AbortController();
    readonly #over = new AbortController();

    constructor() {
        // Everything that waits listens.
        setMaxListeners(0, this.#begun.signal, this.#over.signal);
    }

    get signal(): AbortSignal {
        return this.#begun.signal;
    }

    get cutOff(): AbortSignal {
        return this.#over.signal;
    }

    /** Aborts `signal` with CLOSED and resolves once `quiet` does. */
    async begin(quiet: () => Promise<unknown>): Promise<void> {
        this.#begun.abort(new MediaError("CLOSED"));
        const grace = setTimeout(() => this.#over.abort(new MediaError("CLOSED")), GRACE_MS);
        await quiet();
        clearTimeout(grace);
    }
}
