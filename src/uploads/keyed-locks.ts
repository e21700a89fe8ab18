/** One holder a key at a time; those who come later wait in line. */
export class KeyedLocks {
    readonly #tails = new Map<string, Promise<unknown>>();

    /** Whether nobody holds it or waits for it. */
    isFree(key: string): boolean {
        return !this.#tails.has(key);
    }

    /** Runs `task` once every key is free, and holds them all until it has settled. */
    hold<T>(keys: readonly string[], task: () => Promise<T>): Promise<T> {
        const before = Promise.allSettled(keys.map(async (key) => this.#tails.get(key)));
        const held = before.then(task);
        // Every key is taken in one synchronous step, so two holders cannot wait for each other.
        for (const key of keys) this.#tails.set(key, held);
        const release = (): void => {
            for (const key of keys) if (this.#tails.get(key) === held) this.#tails.delete(key);
        };
        held.then(release, release);
        return held;
    }
}
