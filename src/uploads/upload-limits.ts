import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { ActingUsers } from "../matrix/client.ts";
import { fetchUploadLimit } from "../matrix/media-endpoints.ts";
import { Term } from "./steady-clock.ts";

const FRESH_MS = 60 * 60_000;
/** A homeserver that has not answered by then is not waited for, nor asked again so soon. */
const ANSWER_MS = 10_000;
const ASK_AGAIN_MS = 60_000;
const MAX_USERS = 1000;

/** How large a file each user may upload: the smaller of the operator's limit and the homeserver's, asked as that user. */
export class UploadLimits {
    readonly #users: ActingUsers;
    readonly #maxFileBytes: number;
    readonly #logger: Logger;
    readonly #known = new Map<string, { readonly bytes: number; readonly term: Term }>();

    constructor(users: ActingUsers, maxFileBytes: number, logger: Logger) {
        this.#users = users;
        this.#maxFileBytes = maxFileBytes;
        this.#logger = logger;
    }

    /** To be asked anew: the homeserver has refused a size that was thought to be allowed. */
    forget(userId: string): void {
        this.#known.delete(userId);
    }

    /** In bytes. A homeserver that does not answer does not hold up the transfer: it will judge the upload itself. */
    async of(userId: string, signal: AbortSignal): Promise<number> {
        const known = this.#known.get(userId);
        if (known !== undefined && !known.term.isOver) return known.bytes;
        try {
            const server = await fetchUploadLimit(this.#users.get(userId).access(), { timeoutMs: ANSWER_MS, signal });
            return this.#remember(userId, Math.min(this.#maxFileBytes, server ?? Number.POSITIVE_INFINITY), FRESH_MS);
        } catch (error) {
            this.#logger.debug("The upload limit could not be asked", { userId, code: asMediaError(error).code });
            return signal.aborted ? this.#maxFileBytes : this.#remember(userId, this.#maxFileBytes, ASK_AGAIN_MS);
        }
    }

    #remember(userId: string, bytes: number, forMs: number): number {
        this.#known.delete(userId);
        this.#known.set(userId, { bytes, term: new Term(forMs) });
        const [oldest] = this.#known.keys();
        if (this.#known.size > MAX_USERS && oldest !== undefined) this.#known.delete(oldest);
        return bytes;
    }
}
