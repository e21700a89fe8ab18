import type { Logger } from "../../logger.ts";
import { loggable } from "../../redact.ts";
import type { Damage, Store } from "../../store/store.ts";
import { steadyNow } from "../../uploads/steady-clock.ts";
import type { Reservations } from "../reservations.ts";
import { type Review, type ReviewParts, reviewJournal } from "./journal-review.ts";

/**
 * What follows from damage of the journal. Writes that are missing may bring back an older state, in which a message still
 * waits that was sent long ago, or an address lies ready that another event shows. So after damage nothing is believed
 * that would do harm were it old: each event is looked for in its room before it is sent, also those that a bridge sends
 * again because it no longer knows them; and addresses kept ahead are given up. Then the journal is reviewed.
 */
export interface AftermathParts extends ReviewParts {
    readonly store: Store;
    readonly logger: Logger;
    readonly reservations: Reservations;
    /** Told when a review has changed something: the lines, the queue, the marks and the followers are to be looked at. */
    readonly onReviewed: (review: Review) => Promise<void>;
}

const META = "meta";
const DAMAGED = "damaged";
/** For how long after damage every event is looked for before it is sent, over restarts too. */
const DOUBT_MS = 60 * 60_000;

export class Aftermath {
    readonly #parts: AftermathParts;
    readonly #closing = new AbortController();
    /** By `steadyNow()`. */
    #doubtUntil = 0;
    #found = false;
    #open = false;
    #working: Promise<void> | undefined;

    constructor(parts: AftermathParts) {
        this.#parts = parts;
    }

    /** Whether what the journal says of an event may be older than the room. */
    get isInDoubt(): boolean {
        return this.#doubtUntil > steadyNow();
    }

    /** To be called with every damage that the store has found. */
    found(damage: Damage): void {
        this.#parts.logger.error("The journal was damaged; what is named here is lost, the rest goes on", damage);
        this.#doubtFor(DOUBT_MS);
        this.#found = true;
        if (this.#open) this.#poke();
    }

    /** Before anything is sent or handed out. */
    async prepare(): Promise<void> {
        const { store, reservations } = this.#parts;
        const known = await store.get(META, DAMAGED);
        const until = known?.["doubtUntil"];
        if (typeof until === "number") this.#doubtFor(Math.min(until - Date.now(), DOUBT_MS));
        if (known?.["reviewed"] === false) this.#found = true;
        // Whose place in a line was lost has it again before anybody comes behind.
        while (this.#found) await this.#review(reservations);
    }

    /** Once everything else has been started. */
    start(): void {
        this.#open = true;
        if (this.#found) this.#poke();
    }

    async close(): Promise<void> {
        this.#open = false;
        this.#closing.abort();
        await this.#working;
    }

    #poke(): void {
        this.#working ??= this.#work()
            .catch((error: unknown) => {
                if (this.#closing.signal.aborted) return;
                const text = "The journal could not be reviewed; the next start does it";
                this.#parts.logger.error(text, { error: loggable(error) });
            })
            .finally(() => {
                this.#working = undefined;
                // Found after the last look and before this line.
                if (this.#found && this.#open) this.#poke();
            });
    }

    async #work(): Promise<void> {
        while (this.#found && this.#open) {
            await this.#parts.onReviewed(await this.#review(this.#parts.reservations));
        }
    }

    async #review(reservations: Reservations): Promise<Review> {
        this.#found = false;
        await this.#note(false);
        await reservations.giveUp();
        const review = await reviewJournal(this.#parts, this.#closing.signal);
        if (!this.#found) await this.#note(true);
        this.#parts.logger.warn("The journal was reviewed after damage", review);
        return review;
    }

    #doubtFor(ms: number): void {
        this.#doubtUntil = Math.max(this.#doubtUntil, steadyNow() + ms);
    }

    async #note(reviewed: boolean): Promise<void> {
        // By the machine's clock: the next process has a steady one of its own.
        const record = { doubtUntil: Date.now() + this.#doubtUntil - steadyNow(), reviewed };
        await this.#parts.store.commit([{ collection: META, key: DAMAGED, record }]);
    }
}
