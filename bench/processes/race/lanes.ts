/** One thing after the other in each room; rooms side by side. */
export class Lanes {
    readonly #last = new Map<string, Promise<unknown>>();

    run<T>(roomId: string, action: () => Promise<T>): Promise<T> {
        const before = this.#last.get(roomId) ?? Promise.resolve();
        const mine = before.then(action, action);
        this.#last.set(roomId, mine);
        return mine;
    }
}
