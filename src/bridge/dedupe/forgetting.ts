import type { Logger } from "../../logger.ts";
import type { Store, Write } from "../../store/store.ts";
import { fromOrderedKey } from "../../uploads/job-records.ts";
import { Tidying } from "../tidying.ts";
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

const BATCH = 100;

/** Forgets files that were not used for long, or that are too many; one that is sent again is uploaded again. */
export class Forgetting {
    readonly #parts: ForgettingParts;
    readonly #tidying: Tidying;

    constructor(parts: ForgettingParts) {
        this.#parts = parts;
        const { logger, keepMs } = parts;
        const work = (cutoff: number): Promise<void> => this.forget(cutoff);
        this.#tidying = new Tidying({ logger, keepMs, work, failure: "Shared files could not be forgotten" });
    }

    start(): void {
        this.#tidying.start();
    }

    close(): Promise<void> {
        return this.#tidying.close();
    }

    /** Forgets what was last used before `cutoff`, and the oldest of what is too much. */
    async forget(cutoff: number): Promise<void> {
        let tooMany = (await this.#count()) - this.#parts.maxFiles;
        for (let full = true; full; ) {
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
            full = looked === BATCH && kept < BATCH && (await this.#tidying.mayGoOn());
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
