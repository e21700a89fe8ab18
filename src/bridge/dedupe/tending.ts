import type { Logger } from "../../logger.ts";
import { loggable } from "../../redact.ts";
import { isFinal, type Job } from "../../uploads/job.ts";
import type { Followers } from "./followers.ts";
import type { Turns } from "./turns.ts";

export interface TendingParts {
    readonly turns: Turns;
    readonly followers: Followers;
    readonly logger: Logger;
}

const RETRY_MS = 1000;

/** Has every file's followers seen to after its leader has ended, and all of them once at the start. */
export class Tending {
    readonly #parts: TendingParts;
    readonly #due = new Set<string>();
    #working: Promise<void> | undefined;
    #retry: NodeJS.Timeout | undefined;
    #isOpen = false;
    /** Whether those that an earlier run left were found. */
    #isStarted = false;

    constructor(parts: TendingParts) {
        this.#parts = parts;
    }

    start(): void {
        this.#isOpen = true;
        this.#poke();
    }

    /** Sees to all that follow, as a start does; for followers that have come to light since. */
    async lookAtAll(): Promise<void> {
        for await (const key of this.#parts.followers.files()) this.#due.add(key);
        this.#poke();
    }

    /** To be told of every job that has ended. */
    ended({ dedupe, state, id }: Job): void {
        if (dedupe === undefined || !isFinal(state) || !this.#parts.turns.mayHaveLed(dedupe, id)) return;
        this.look(dedupe);
    }

    /** Has one file's followers seen to. */
    look(key: string): void {
        this.#due.add(key);
        this.#poke();
    }

    async close(): Promise<void> {
        this.#isOpen = false;
        clearTimeout(this.#retry);
        await this.#working;
    }

    #poke(): void {
        if (!this.#isOpen) return;
        this.#working ??= this.#work()
            .catch((error: unknown) => {
                const text = "Jobs with a common file could not be seen to and will be tried again";
                this.#parts.logger.error(text, { error: loggable(error) });
                clearTimeout(this.#retry);
                this.#retry = setTimeout(() => this.#lookAgain(), RETRY_MS);
            })
            .finally(() => {
                this.#working = undefined;
                // Told after the last look and before this line.
                if (this.#retry === undefined && this.#due.size > 0) this.#poke();
            });
    }

    #lookAgain(): void {
        this.#retry = undefined;
        this.#poke();
    }

    async #work(): Promise<void> {
        if (!this.#isStarted) {
            for await (const key of this.#parts.followers.files()) {
                if (!this.#isOpen) return;
                await this.#parts.turns.tend(key);
            }
            this.#isStarted = true;
        }
        for (const key of this.#due) {
            if (!this.#isOpen) return;
            this.#due.delete(key);
            await this.#parts.turns.tend(key).catch((error: unknown) => {
                this.#due.add(key);
                throw error;
            });
        }
    }
}
