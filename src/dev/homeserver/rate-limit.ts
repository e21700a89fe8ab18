/** A leaky bucket for each user: `burst` actions at once, then `perSecond`. */
export class RateLimit {
    readonly #perSecond: number;
    readonly #burst: number;
    readonly #buckets = new Map<string, { level: number; at: number }>();

    constructor({ perSecond, burst }: { readonly perSecond: number; readonly burst: number }) {
        this.#perSecond = perSecond;
        this.#burst = burst;
    }

    /** Counts an action; returns 0, or how long to wait when it is one too many (which then does not count). */
    take(userId: string, now: number): number {
        const bucket = this.#buckets.get(userId) ?? { level: 0, at: now };
        const level = Math.max(0, bucket.level - ((now - bucket.at) / 1000) * this.#perSecond);
        const excess = level - (this.#burst - 1);
        if (excess > 0) return (excess / this.#perSecond) * 1000;
        this.#buckets.set(userId, { level: level + 1, at: now });
        return 0;
    }
}
