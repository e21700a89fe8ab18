import type { StoredRecord } from "../../src/store/store.ts";
import type { Built } from "./built.ts";

/** Milliseconds during which somebody waited for the store. */
export interface JournalTimes {
    readonly commitMs: number;
    readonly readMs: number;
}

/** Times the store's methods from outside, so that the product carries no clock of its own. */
export class JournalClock {
    readonly #commits = new Stopwatch();
    readonly #reads = new Stopwatch();

    constructor({ prototype }: Built["LevelStore"]) {
        wrap(prototype, "commit", (commit) => this.#commits.during(commit as () => Promise<unknown>));
        wrap(prototype, "get", (get) => this.#reads.during(get as () => Promise<unknown>));
        wrap(prototype, "range", (range) => timed(range() as Records, this.#reads));
    }

    /** What is under way counts up to now: a send that does not await a commit to its end is not charged for the rest. */
    read(): JournalTimes {
        return { commitMs: this.#commits.milliseconds, readMs: this.#reads.milliseconds };
    }
}

/** Runs while at least one of what it times is under way. */
class Stopwatch {
    #underWay = 0;
    #since = 0;
    #total = 0;

    get milliseconds(): number {
        return this.#total + (this.#underWay > 0 ? performance.now() - this.#since : 0);
    }

    begin(): void {
        if (this.#underWay++ === 0) this.#since = performance.now();
    }

    end(): void {
        if (--this.#underWay === 0) this.#total += performance.now() - this.#since;
    }

    async during<T>(action: () => Promise<T>): Promise<T> {
        this.begin();
        try {
            return await action();
        } finally {
            this.end();
        }
    }
}

function wrap(prototype: object, name: string, around: (call: () => unknown) => unknown): void {
    const original = Reflect.get(prototype, name) as (...given: unknown[]) => unknown;
    Reflect.set(prototype, name, function wrapped(this: unknown, ...given: unknown[]) {
        return around(() => original.apply(this, given));
    });
}

type Records = AsyncIterable<readonly [key: string, record: StoredRecord]>;

async function* timed(
    records: Records,
    stopwatch: Stopwatch,
): AsyncGenerator<readonly [key: string, record: StoredRecord]> {
    const iterator = records[Symbol.asyncIterator]();
    try {
        while (true) {
            const next = await stopwatch.during(() => iterator.next());
            if (next.done === true) return;
            yield next.value;
        }
    } finally {
        await iterator.return?.();
    }
}
