/**
 * Transaction IDs: a PUT repeated with the same path gets the first one's answer. As in Synapse the memory is the
 * process's own (a restart forgets it), and for an appservice the key is the path and the appservice, not the user: two
 * ghosts that use one transaction ID in one room lose the second message.
 */
import type { Requester } from "./accounts.ts";
import type { JsonObject } from "./json.ts";

interface Remembered {
    readonly answer: Promise<JsonObject>;
    readonly at: number;
}

export class Transactions {
    readonly #memoryMs: number;
    readonly #remembered = new Map<string, Remembered>();

    constructor(memoryMs: number) {
        this.#memoryMs = memoryMs;
    }

    /** `path` is the request's path as it came: the same ID spelled with other percent-encoding is another one. */
    async once(path: string, requester: Requester, execute: () => Promise<JsonObject>): Promise<JsonObject> {
        this.#forgetOld();
        const { appservice, userId } = requester;
        const key = `${appservice === undefined ? `user ${userId}` : `appservice ${appservice.id}`} ${path}`;
        const known = this.#remembered.get(key);
        if (known !== undefined) return known.answer;

        const answer = execute();
        this.#remembered.set(key, { answer, at: Date.now() });
        try {
            return await answer;
        } catch (error) {
            // Only success is remembered, so that a failed request can be repeated.
            this.#remembered.delete(key);
            throw error;
        }
    }

    /** A Map keeps the order of insertion, so the oldest stand in front: each entry is looked at once. */
    #forgetOld(): void {
        const oldest = Date.now() - this.#memoryMs;
        for (const [key, { at }] of this.#remembered) {
            if (at > oldest) return;
            this.#remembered.delete(key);
        }
    }
}
