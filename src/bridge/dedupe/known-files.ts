import type { Store, Write } from "../../store/store.ts";
import { loadShared, type SharedFile, sharedWrites } from "./shared-file.ts";

/** Records kept in memory, the least used going first. */
const MAX_KNOWN = 4096;
/** How many held ones are passed over in search of one that may go. */
const LOOK_AT = 64;

/**
 * The shared files' records, in memory as they will be once what was handed to the store is written. Whoever decides
 * by them does so, and hands the store its writes, in one synchronous step: so no two decisions contradict each other,
 * although nobody waits for anybody's commit.
 */
export class KnownFiles {
    readonly #store: Store;
    readonly #onPending: (key: string) => void;
    readonly #known = new Map<string, SharedFile | undefined>();
    /** Not written yet: these must not be read from the store again. */
    readonly #held = new Map<string, number>();

    /**
     * @param onPending Told of a file that another job is said to transfer, when that was read: the process that journaled it may
     * have ended between that job's end and what follows from it, when nobody followed yet.
     */
    constructor(store: Store, onPending: (key: string) => void) {
        this.#store = store;
        this.#onPending = onPending;
    }

    async load(key: string): Promise<SharedFile | undefined> {
        if (!this.#known.has(key)) {
            const file = await loadShared(this.#store, key);
            if (!this.#known.has(key)) {
                this.#remember(key, file);
                if (file?.state === "pending" && file.leader !== undefined) this.#onPending(key);
            }
        }
        return this.peek(key);
    }

    isKnown(key: string): boolean {
        return this.#known.has(key);
    }

    /** What memory knows; to be trusted only where `isKnown`, in the same step. */
    peek(key: string): SharedFile | undefined {
        const file = this.#known.get(key);
        // The least used stands first.
        if (this.#known.delete(key)) this.#known.set(key, file);
        return file;
    }

    /** Changes what is known and returns what makes it last; the caller commits that in the same step. */
    set(key: string, file: SharedFile | undefined): Write[] {
        const writes = sharedWrites(this.#known.get(key), file);
        this.#remember(key, file);
        return writes;
    }

    /** The same, committed by itself or together with what else `commit` adds; where that fails, memory knows again what it knew before. */
    async change(
        key: string,
        file: SharedFile | undefined,
        commit = (writes: readonly Write[]): Promise<void> => this.#store.commit(writes),
    ): Promise<void> {
        const before = this.#known.get(key);
        this.hold(key);
        try {
            await commit(this.set(key, file));
        } catch (error) {
            if (this.#known.get(key) === file) this.set(key, before);
            throw error;
        } finally {
            this.letGo(key);
        }
    }

    /** Keeps a record in memory until what was decided by it is written. */
    hold(key: string): void {
        this.#held.set(key, (this.#held.get(key) ?? 0) + 1);
    }

    letGo(key: string): void {
        const left = (this.#held.get(key) ?? 1) - 1;
        if (left === 0) this.#held.delete(key);
        else this.#held.set(key, left);
    }

    #remember(key: string, file: SharedFile | undefined): void {
        this.#known.delete(key);
        this.#known.set(key, file);
        if (this.#known.size <= MAX_KNOWN) return;
        let looked = 0;
        for (const other of this.#known.keys()) {
            if (other !== key && !this.#held.has(other)) {
                this.#known.delete(other);
                return;
            }
            if (++looked === LOOK_AT) return;
        }
    }
}
