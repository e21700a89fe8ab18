/** What has been started and must be ended again, last first. */
export class Closers {
    readonly #closers: (() => unknown)[] = [];

    add(close: () => unknown): void {
        this.#closers.push(close);
    }

    /** Ends everything, also when ending one thing fails; then rejects with the first failure. */
    async close(): Promise<void> {
        const failures: unknown[] = [];
        for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
            try {
                await close();
            } catch (error) {
                failures.push(error);
            }
        }
        if (failures.length > 0) throw failures[0];
    }
}
