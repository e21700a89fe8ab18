import { asMediaError, MediaError } from "../errors.ts";
import { jobOfSpoolName } from "../uploads/encryption/job-encryption.ts";
import type { Parts } from "./assembly.ts";
import type { Avatars } from "./avatars.ts";
import type { Sendings } from "./sendings.ts";
import { openSequence } from "./sequence.ts";
import { newestJob } from "./successor.ts";

/** How the component starts and ends, in which order its parts do, and what a call may count on in between. */
export interface LifeParts extends Parts {
    readonly avatars: Avatars;
    readonly sendings: Sendings;
    /** Aborted with CLOSED when the parts are to end. */
    readonly closing: AbortController;
}

export class Life {
    readonly #parts: LifeParts;
    /** Once it is known which places in the rooms' lines were handed out before. */
    #sequence: (() => string) | undefined;
    #state: "new" | "started" | "closed" = "new";
    #starting: Promise<void> | undefined;
    #ending: Promise<void> | undefined;

    constructor(parts: LifeParts) {
        this.#parts = parts;
    }

    /** Throws NOT_STARTED or CLOSED. */
    assertStarted(): void {
        if (this.#state === "new") throw new MediaError("NOT_STARTED");
        if (this.#isClosed()) throw new MediaError("CLOSED");
    }

    /** The next place in the rooms' lines. Throws NOT_STARTED. */
    nextSequence(): string {
        if (this.#sequence === undefined) throw new MediaError("NOT_STARTED");
        return this.#sequence();
    }

    /** See `BridgeMedia.start()`. */
    async start(): Promise<void> {
        if (this.#isClosed()) throw new MediaError("CLOSED");
        this.#starting ??= this.#start();
        await this.#starting;
        if (this.#isClosed()) throw new MediaError("CLOSED");
    }

    /** See `BridgeMedia.close()`. */
    close(): Promise<void> {
        this.#ending ??= this.#close();
        return this.#ending;
    }

    async #start(): Promise<void> {
        await this.#open();
        const { store, aftermath, spool, reservations, backlog, queue, outbox } = this.#parts;
        const steps = [
            () => aftermath.prepare(),
            async () => {
                this.#sequence = await openSequence(store, () => aftermath.isInDoubt);
            },
            () => spool.start((name) => this.#isSpoolNeeded(name)),
            () => reservations.start(),
            () => backlog.takeStock(store, aftermath.isInDoubt),
            () => queue.start(),
        ];
        try {
            for (const step of steps) {
                // Some of them read the whole journal.
                if (this.#isClosed()) throw new MediaError("CLOSED");
                await step();
            }
            if (this.#isClosed()) return;
            this.#state = "started";
            await outbox.start();
            this.#parts.revisions.start();
            this.#parts.expiryWatch.start();
            this.#parts.sweeper.start();
            this.#parts.tending.start();
            this.#parts.forgetting.start();
            await this.#parts.avatars.start();
            aftermath.start();
        } catch (error) {
            const cause = this.#isClosed() ? new MediaError("CLOSED") : asMediaError(error, "STORE_UNUSABLE");
            this.#state = "closed";
            await this.#tearDown();
            throw cause;
        }
    }

    /** A store that does not open leaves everything as it was: another start may succeed. */
    async #open(): Promise<void> {
        const { store, aftermath } = this.#parts;
        try {
            await store.open((damage) => aftermath.found(damage));
        } catch (error) {
            await store.close();
            this.#starting = undefined;
            throw asMediaError(error, "STORE_UNUSABLE");
        }
    }

    async #close(): Promise<void> {
        this.#state = "closed";
        if (this.#starting === undefined) return;
        // A start that is under way ends at its next step, and so does its review of a damaged journal.
        await this.#parts.aftermath.close();
        const isOpen = await this.#starting.then(
            () => true,
            () => false,
        );
        if (isOpen) await this.#tearDown();
    }

    async #tearDown(): Promise<void> {
        this.#parts.closing.abort(new MediaError("CLOSED"));
        await Promise.all([this.#parts.queue.close(), this.#parts.outbox.close(), this.#parts.reservations.close()]);
        await this.#parts.aftermath.close();
        await this.#parts.expiryWatch.close();
        await this.#parts.questions.close();
        await this.#parts.revisions.close();
        await this.#parts.sweeper.close();
        await this.#parts.tending.close();
        await this.#parts.forgetting.close();
        await this.#parts.cancellation.quiet();
        this.#parts.outcomes.close();
        this.#parts.ends.close();
        await this.#parts.avatars.quiet();
        await this.#parts.sendings.quiet();
        await this.#parts.engine.close();
        await this.#parts.store.close();
    }

    async #isSpoolNeeded(name: string): Promise<boolean> {
        const job = await newestJob(this.#parts.store, jobOfSpoolName(name));
        return (
            job?.source.kind === "spool" &&
            job.source.name === name &&
            job.state !== "done" &&
            job.state !== "cancelled"
        );
    }

    #isClosed(): boolean {
        return this.#state === "closed";
    }
}
