import { MediaError } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";

/**
 * Which messages a lane is delivering right now, and the word to it that one is no longer wanted. Used only while the
 * message's lock is held, so that a message is either taken out of its line or told to its lane, and never both.
 */
export class Withdrawals {
    readonly #underWay = new Map<string, { readonly withdrawal: AbortController; readonly stop: LinkedAbort }>();

    /** Resolves into a signal that aborts with CANCELLED when the message is withdrawn, or as `closing` does. */
    enter(id: string, closing: AbortSignal): AbortSignal {
        const withdrawal = new AbortController();
        const stop = new LinkedAbort([closing, withdrawal.signal]);
        this.#underWay.set(id, { withdrawal, stop });
        return stop.signal;
    }

    leave(id: string): void {
        this.#underWay.get(id)?.stop.release();
        this.#underWay.delete(id);
    }

    isUnderWay(id: string): boolean {
        return this.#underWay.has(id);
    }

    tell(id: string): void {
        this.#underWay.get(id)?.withdrawal.abort(new MediaError("CANCELLED"));
    }
}
