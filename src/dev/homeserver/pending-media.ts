/** The media IDs each user has reserved and not filled. A Map keeps their order, so the oldest is always the first. */
export class PendingMedia {
    readonly #expirationMs: number;
    readonly #reservedAt = new Map<string, Map<string, number>>();

    constructor(expirationMs: number) {
        this.#expirationMs = expirationMs;
    }

    add(userId: string, mediaId: string, at: number): void {
        const own = this.#reservedAt.get(userId);
        if (own === undefined) this.#reservedAt.set(userId, new Map([[mediaId, at]]));
        else own.set(mediaId, at);
    }

    remove(userId: string, mediaId: string): void {
        this.#reservedAt.get(userId)?.delete(mediaId);
    }

    count(userId: string, now: number): number {
        const own = this.#reservedAt.get(userId);
        if (own === undefined) return 0;
        for (const [mediaId, at] of own) {
            if (at + this.#expirationMs > now) break;
            own.delete(mediaId);
        }
        return own.size;
    }

    /** When the first of the user's reservations expires; only after `count` has said that there is one. */
    firstExpiry(userId: string): number {
        const [oldest = 0] = this.#reservedAt.get(userId)?.values() ?? [];
        return oldest + this.#expirationMs;
    }
}
