/**
 * Requests that wait for news: a sync for an event, a download for its file. A held request goes on when news that
 * concerns it is announced, when its time is up, when its client goes away, or when the server closes.
 */
import type { ServerResponse } from "node:http";

interface Held<News> {
    readonly concerns: (news: News) => boolean;
    readonly release: () => void;
}

export class HeldRequests<News> {
    readonly #held = new Set<Held<News>>();
    #closed = false;

    /** Resolves for whatever reason first; the caller looks again at what it was waiting for. */
    hold(concerns: (news: News) => boolean, timeoutMs: number, response: ServerResponse): Promise<void> {
        if (this.#closed || response.destroyed || timeoutMs <= 0) return Promise.resolve();
        return new Promise((resolve) => {
            const release = (): void => {
                clearTimeout(timer);
                response.off("close", release);
                this.#held.delete(entry);
                resolve();
            };
            const entry = { concerns, release };
            const timer = setTimeout(release, timeoutMs);
            response.once("close", release);
            this.#held.add(entry);
        });
    }

    announce(news: News): void {
        for (const { concerns, release } of this.#held) if (concerns(news)) release();
    }

    /** True once no request will be held any more. */
    get closed(): boolean {
        return this.#closed;
    }

    close(): void {
        this.#closed = true;
        for (const { release } of this.#held) release();
    }
}
