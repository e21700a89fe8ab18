import { setTimeout as sleep } from "node:timers/promises";

export interface SendRound {
    readonly count: number;
    /** Between one send and the next. */
    readonly pauseMs: number;
}

/** Times one action after the other, each after a pause in which what the last one set off can end. */
export class Latencies {
    readonly milliseconds: number[] = [];
    readonly #pauseMs: number;

    constructor(pauseMs: number) {
        this.#pauseMs = pauseMs;
    }

    async time<T>(action: () => Promise<T>): Promise<T> {
        await sleep(this.#pauseMs);
        const began = performance.now();
        const value = await action();
        this.milliseconds.push(performance.now() - began);
        return value;
    }
}
