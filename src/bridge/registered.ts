import { asMediaError } from "../errors.ts";
import type { ActingUsers } from "../matrix/client.ts";

/** To register one again is one request. */
const MAX_KNOWN = 10_000;

/**
 * Users that this process has had registered. A homeserver that gives addresses says of whom it does not know; an upload in
 * one step would have failed by then.
 */
export class Registered {
    readonly #users: ActingUsers;
    readonly #known = new Set<string>();

    constructor(users: ActingUsers) {
        this.#users = users;
    }

    /** Rejects with what passes. A refusal is left to the upload: whose user is there already needs no registration. */
    async ensure(userId: string): Promise<void> {
        if (this.#known.has(userId)) return;
        try {
            await this.#users.get(userId).ensureRegistered();
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (error.retryable) throw error;
        }
        if (this.#known.size >= MAX_KNOWN) this.#known.clear();
        this.#known.add(userId);
    }
}
