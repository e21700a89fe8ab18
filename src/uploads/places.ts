import PQueue from "p-queue";

/**
 * The queue's places: `concurrency` for files of any size, and beside them some for small files alone, so that a photo
 * does not wait until a video is through. A small file takes one of the others only where all of its own are taken.
 * History leaves one of those for any file to what is live, or a backlog of slow files would keep that out for hours.
 */
export interface Sized {
    /** Bytes, as promised; a file that does not say counts as large. */
    readonly size?: number | undefined;
}

export interface Placed extends Sized {
    /** @default false */
    readonly backfill?: boolean;
}

/** Bytes. */
export const SMALL_FILE_BYTES = 2 ** 20;

export function isSmall({ size }: Sized): boolean {
    return size !== undefined && size <= SMALL_FILE_BYTES;
}

/** Not only for want of a word: whoever needs to be certain that it is no photo asks this. */
export function isLargeForCertain({ size }: Sized): boolean {
    return size !== undefined && !isSmall({ size });
}

/** A place for a file of any size, the same for history, or one for small files alone. */
export type PlaceKind = "any" | "history" | "small";

/** Those that would do for a file. */
export function placeKindsOf(file: Placed): PlaceKind[] {
    const ofAny = file.backfill === true ? "history" : "any";
    return isSmall(file) ? [ofAny, "small"] : [ofAny];
}

/** Who a look at the queue's lists has left there without a place. */
export interface Left {
    readonly small: boolean;
    readonly large: boolean;
}

export const NOBODY: Left = { small: false, large: false };
export const EVERYBODY: Left = { small: true, large: true };

export function both(one: Left, other: Left): Left {
    return { small: one.small || other.small, large: one.large || other.large };
}

export class Places {
    readonly total: number;
    readonly #ofAny: PQueue;
    readonly #ofSmall: PQueue | undefined;
    /** Of the places for any file, with a single one there is none to leave. */
    readonly #forHistory: number;
    #takenByHistory = 0;

    /** @param small May be 0. */
    constructor(any: number, small: number) {
        this.total = any + small;
        this.#forHistory = Math.max(1, any - 1);
        this.#ofAny = new PQueue({ concurrency: any });
        this.#ofSmall = small === 0 ? undefined : new PQueue({ concurrency: small });
    }

    /** Whether there is none for any file. */
    get isFull(): boolean {
        return !this.hasOne("any") && !this.hasOne("small");
    }

    /** Whether there is none for history of any size. */
    get isFullForHistory(): boolean {
        return !this.hasOne("history") && !this.hasOne("small");
    }

    hasOneFor(file: Placed): boolean {
        return placeKindsOf(file).some((kind) => this.hasOne(kind));
    }

    hasOne(kind: PlaceKind): boolean {
        if (kind === "small") return isFree(this.#ofSmall);
        return isFree(this.#ofAny) && !(kind === "history" && this.#takenByHistory >= this.#forHistory);
    }

    /** Runs `task` in a place. To be called where there is one: nobody could overtake what waits in here. */
    run<T>(file: Placed, task: () => Promise<T>): Promise<T> {
        if (isSmall(file) && isFree(this.#ofSmall)) return this.#ofSmall.add(task);
        if (file.backfill !== true) return this.#ofAny.add(task);
        this.#takenByHistory++;
        return this.#ofAny.add(task).finally(() => this.#takenByHistory--);
    }

    async onIdle(): Promise<void> {
        await Promise.all([this.#ofAny.onIdle(), this.#ofSmall?.onIdle()]);
    }
}

function isFree(places: PQueue | undefined): places is PQueue {
    return places !== undefined && places.pending + places.size < places.concurrency;
}
