/**
 * Messages go before bytes: while one is being journaled or sent, transfers wait before their next piece, each a short
 * while at most. An event is a few turns of the event loop, and a piece that a fast line has ready takes one of them.
 * However many messages there are, a transfer moves a piece each `MAX_WAIT_MS`, so it slows down and never stops.
 */

/** With pieces of 256 KiB: 25 MB/s for each transfer, in a bridge that sends all the time. */
const MAX_WAIT_MS = 10;

export class RightOfWay {
    #underWay = 0;
    readonly #waiting = new Set<() => void>();
    /** Between two steps of a message nobody is under way for a moment: the way is free a turn of the loop later. */
    #freeSoon: NodeJS.Immediate | undefined;

    /** Has `work` go before the transfers' pieces. */
    async first<T>(work: () => Promise<T>): Promise<T> {
        this.#underWay++;
        try {
            return await work();
        } finally {
            this.#underWay--;
            if (this.#underWay === 0) this.#freeSoon ??= setImmediate(() => this.#letPass());
        }
    }

    /** Resolves when no message is under way, or after a short while; undefined when the way is free now. */
    free(): Promise<void> | undefined {
        if (this.#underWay === 0 && this.#freeSoon === undefined) return undefined;
        return new Promise((resolve) => {
            const pass = (): void => {
                clearTimeout(timer);
                this.#waiting.delete(pass);
                resolve();
            };
            const timer = setTimeout(pass, MAX_WAIT_MS);
            this.#waiting.add(pass);
        });
    }

    #letPass(): void {
        this.#freeSoon = undefined;
        if (this.#underWay > 0) return;
        for (const pass of this.#waiting) pass();
    }
}
