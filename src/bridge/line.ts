/**
 * The beginning of one room's line, as this process knows it without asking the store.
 *
 * The line itself is the journal's. But whoever journals a message says so here when it hands it to the store, in that
 * order, so that a lane mostly knows what comes next, and reads the store only for what an earlier process left. That
 * holds as long as nothing stands in the journal's line that was not said here: then the line is *whole*. One that is not
 * becomes whole again when the store has nothing for it, and nothing was on its way there while it was asked.
 */
export class Line {
    readonly #entries: { readonly id: string; readonly isJournaled: Promise<boolean> }[] = [];
    #isWhole: boolean;
    /** Commits under way, and all that ever were. */
    #underWay = 0;
    #said = 0;

    /** @param isWhole False where an earlier process left something. */
    constructor(isWhole: boolean) {
        this.#isWhole = isWhole;
    }

    /** Whether it can be forgotten: there is nothing that a new line would not know. */
    get isOver(): boolean {
        return this.#isWhole && this.#entries.length === 0 && this.#underWay === 0;
    }

    /** To be called in the order in which the line's messages are handed to the store. */
    append(id: string, committed: Promise<void>): void {
        this.#said++;
        this.#underWay++;
        const settled = (isJournaled: boolean): boolean => {
            this.#underWay--;
            return isJournaled;
        };
        const isJournaled = committed.then(
            () => settled(true),
            () => settled(false),
        );
        if (this.#isWhole) this.#entries.push({ id, isJournaled });
    }

    /**
     * The id of the first message, undefined when there is none; the same one again until `shift()`.
     * @param stored Finds the first message of the journal's line.
     */
    async first(stored: () => Promise<string | undefined>): Promise<string | undefined> {
        while (this.#isWhole) {
            const [entry] = this.#entries;
            if (entry === undefined) return undefined;
            if (await entry.isJournaled) return entry.id;
            this.#entries.shift();
        }
        const before = this.#said;
        const mayBecomeWhole = this.#underWay === 0;
        const id = await stored();
        if (id === undefined && mayBecomeWhole && this.#said === before) this.#isWhole = true;
        return id;
    }

    /** Something has come to light in the journal's line that was not said here. */
    reread(): void {
        this.#isWhole = false;
        this.#entries.length = 0;
    }

    /** The first message has come to its end, and is out of the journal's line. */
    shift(): void {
        this.#entries.shift();
    }
}
