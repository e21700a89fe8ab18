import { MediaError } from "../errors.ts";

const REMEMBERED = 1024;

/**
 * Ids that the homeserver gave of late, and to whom. Each is given once; one that comes again for somebody else is the
 * answer to another request: something between here and the homeserver has answered twice on one connection, and HTTP/1.1
 * cannot tell which answer is whose.
 */
export class Unrepeated {
    readonly #given = new Map<string, string>();

    /** Throws HOMESERVER_ANSWER_INVALID, ambiguous: what was asked for may have been carried out. */
    check(id: string, to: string): void {
        if (!this.isOwn(id, to))
            throw new MediaError("HOMESERVER_ANSWER_INVALID", {
                detail: "the answer to another request",
                ambiguous: true,
            });
    }

    /** Remembers the id where it is. */
    isOwn(id: string, to: string): boolean {
        const before = this.#given.get(id);
        if (before !== undefined && before !== to) return false;
        this.#given.set(id, to);
        const [oldest] = this.#given.keys();
        if (this.#given.size > REMEMBERED && oldest !== undefined) this.#given.delete(oldest);
        return true;
    }
}
