import type { Logger } from "../../logger.ts";
import type { Store, Write } from "../../store/store.ts";
import { fromOrderedKey } from "../../uploads/job-records.ts";
import type { KnownFiles } from "./known-files.ts";
import { SHARED, USED, usedKey } from "./shared-file.ts";

export interface ForgettingParts {
    readonly store: Store;
    readonly files: KnownFiles;
    readonly logger: Logger;
    readonly keepMs: number;
    /** Records kept at most; those used longest ago go first. */
    readonly maxFiles: number;
}

const EVERY_MS = 60 * 60_000;
const BATCH = 500;

/** Forgets files that were not used for long, or that are too many; one that is sent again is uploaded again. */
export class Forgetting {
    readonly #parts: ForgettingParts;
    #timer: NodeJS.Timeout | undefined;
    #working: Promise<void> | undefined;
    #isClosed = false;

    constructor(parts: ForgettingParts) {
        this.#parts = parts;
    }

    start(): void {
        this.#timer = setInterval(() => this.#poke(), Math.min(EVERY_MS, this.#parts.keepMs));
        this.#timer.unref();
    }

    async close(): Promise<void> {
        this.#isClosed = true;
        clearInterval(this.#timer);
        await this.#working;
    }

    #poke(): void {
        this.#working ??= this.forget(Date.now() - this.#parts.keepMs)
            .catch((error: unknown) => this.#parts.logger.error("Shared files could not be forgotten", { error }))
            .finally(() => {
                this.#working = undefined;
            });
    }

    /** Forgets what was last used before `cutoff`, and the oldest of what is too much. */
    async forget(cutoff: number): Promise<void> {
        let tooMany = (await this.#count()) - this.#parts.maxFiles;
        for (let full = true; full && !this.#isClosed; ) {
            const writes: Write[] = [];
            let looked = 0;
            let kept = 0;
            for await (const row of this.#parts.store.keys({ collection: USED, limit: BATCH })) {
                if (fromOrderedKey(row).time >= cutoff && tooMany <= 0) break;
                looked++;
                const became = await this.#forget(row, writes);
                if (became === "gone") tooMany--;
                if (became === "kept") kept++;
            }
            await this.#parts.store.commit(writes);
            full = looked === BATCH && kept < BATCH;
        }
    }

    /** What became of the file; of a row that names a time which is over only the row goes. */
    async #forget(row: string, writes: Write[]): Promise<"gone" | "kept" | "stale"> {
        const { files } = this.#parts;
        const file = await files.load(fromOrderedKey(row).id);
        writes.push({ collection: USED, key: row });
        if (file === undefined || usedKey(file) !== row) return "stale";
        if (file.state === "pending" && file.leader !== undefined) {
            // Jobs wait for it: as good as used.
            writes.push(...files.set(file.key, { ...file, usedAt: Date.now() }));
            return "kept";
        }
        writes.push(...files.set(file.key, undefined));
        return "gone";
    }

    async #count(): Promise<number> {
        let count = 0;
        for await (const _ of this.#parts.store.keys({ collection: SHARED })) count++;
        return count;
    }
}
