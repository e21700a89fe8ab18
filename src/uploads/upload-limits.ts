import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { ActingUsers } from "../matrix/client.ts";
import { fetchUploadLimit } from "../matrix/media-endpoints.ts";

const FRESH_MS = 60 * 60_000;
const MAX_USERS = 1000;

/** How large a file each user may upload: the smaller of the operator's limit and the homeserver's, asked as that user. */
export class UploadLimits {
    readonly #users: ActingUsers;
    readonly #maxFileBytes: number;
    readonly #logger: Logger;
    readonly #known = new Map<string, { readonly bytes: number; readonly until: number }>();

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
        if (known !== undefined && known.until > Date.now()) return known.bytes;
        let bytes = this.#maxFileBytes;
        try {
            const server = await fetchUploadLimit(this.#users.get(userId).access(), signal);
            bytes = Math.min(bytes, server ?? Number.POSITIVE_INFINITY);
        } catch (error) {
            this.#logger.debug("The upload limit could not be asked", { userId, code: asMediaError(error).code });
            return bytes;
        }
        this.#known.delete(userId);
        this.#known.set(userId, { bytes, until: Date.now() + FRESH_MS });
        const [oldest] = this.#known.keys();
        if (this.#known.size > MAX_USERS && oldest !== undefined) this.#known.delete(oldest);
        return bytes;
    }
}
