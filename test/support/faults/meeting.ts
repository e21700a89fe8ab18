/** Those who go on together, once each has come or is known not to come, and something has been done. */
export class Meeting {
    #expected: number;
    readonly #then: () => Promise<void>;
    #begun: Promise<void> | undefined;
    #begin = (): void => {};
    readonly #all = new Promise<void>((resolve) => {
        this.#begin = resolve;
    });

    constructor(expected: number, then: () => Promise<void>) {
        this.#expected = expected;
        this.#then = then;
    }

    /** One of them; it comes, or leaves, once. */
    member(): { readonly come: () => Promise<void>; readonly leave: () => void } {
        let isOut = false;
        const leave = (): void => {
            if (isOut) return;
            isOut = true;
            if (--this.#expected === 0) this.#begin();
        };
        const come = (): Promise<void> => {
            this.#begun ??= this.#all.then(this.#then);
            leave();
            return this.#begun;
        };
        return { come, leave };
    }
}
