import { bytesOf } from "../messages.ts";
import { type Answer, refusal } from "./media.ts";

/** A link opens that often; then the network has to be asked for another one. */
const LINK_USES = 2;

/** The remote network's file server, and what it does to those who ask. */
export class Network {
    /** Files that were asked for too early, once. */
    readonly #refused = new Set<string>();
    /** How often each link was used. */
    readonly #links = new Map<string, number>();
    #isDown = { after: 0, left: 0 };

    /** It will be down for so many requests, after so many others. */
    fail(after: number, count: number): void {
        this.#isDown = { after, left: count };
    }

    /** Asked once for each request for a file. */
    get isDown(): boolean {
        if (this.#isDown.left === 0 || this.#isDown.after-- > 0) return false;
        this.#isDown.left--;
        return true;
    }

    /** Whether a file that comes late was refused, as gone, when it was first asked for. */
    hasRefused(name: string): boolean {
        return this.#refused.has(name);
    }

    file(kind: string, name: string, link: string | null): Answer | Buffer {
        if (kind === "missing") return refusal(404, "gone");
        if (kind === "late" && !this.#refused.has(name)) {
            this.#refused.add(name);
            return refusal(404, "gone");
        }
        if (kind === "linked" && !this.#opens(link ?? "")) return refusal(403, "the link has run out");
        return bytesOf(name);
    }

    newLink(): Answer {
        const link = `link${this.#links.size + 1}`;
        this.#links.set(link, 0);
        return { status: 200, body: { link } };
    }

    #opens(link: string): boolean {
        const uses = this.#links.get(link) ?? LINK_USES;
        this.#links.set(link, uses + 1);
        return uses < LINK_USES;
    }
}
