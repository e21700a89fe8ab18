import type { Job } from "./job.ts";
import { type PlaceKind, type Places, placeKindsOf } from "./places.ts";
import { type SourceGate, sourceKeyOf } from "./source-gate.ts";

/** What a job has to wait for. */
export type Refusal = "source" | "places";

/**
 * One look at the queue's lists. They are read while places become free and sources open, and that is for those whom the
 * look has passed over by then, not for whoever is read next. So when one of them could begin, the look is over: the next
 * one finds them first.
 */
export class Look {
    readonly #places: Places;
    readonly #gate: SourceGate;
    readonly #taken = new Set<PlaceKind>();
    readonly #closed = new Set<string>();

    constructor(places: Places, gate: SourceGate) {
        this.#places = places;
        this.#gate = gate;
    }

    passedOver(job: Job, refusal: Refusal): void {
        if (refusal === "places") for (const kind of placeKindsOf(job)) this.#taken.add(kind);
        const source = refusal === "source" ? sourceKeyOf(job) : undefined;
        if (source !== undefined) this.#closed.add(source);
    }

    /** To be asked in the very step in which a job begins. */
    get isOver(): boolean {
        for (const kind of this.#taken) if (this.#places.hasOne(kind)) return true;
        for (const source of this.#closed) if (this.#gate.closedUntil(source) === 0) return true;
        return false;
    }
}
