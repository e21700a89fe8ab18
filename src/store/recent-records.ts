import type { Operation } from "./level-keys.ts";
import type { StoredRecord } from "./store.ts";

/**
 * The records that were written last: a message is read again twice within milliseconds of its writing, and its reading
 * from LevelDB, the proof of its checksum and its parsing are a tenth of a send. What is kept is the text that was written,
 * never the writer's own object; whoever reads the same text gets the same object, which nobody changes.
 */

const MAX_RECORDS = 1024;
/** Of UTF-16 units: at most twice as many bytes. */
const MAX_LENGTH = 1024 * 1024;

interface Recent {
    readonly text: string;
    record?: StoredRecord;
}

export class RecentRecords {
    readonly #byPath = new Map<string, Recent>();
    #length = 0;

    get(path: string): StoredRecord | undefined {
        const recent = this.#byPath.get(path);
        if (recent === undefined) return undefined;
        recent.record ??= JSON.parse(recent.text.slice(recent.text.indexOf("{"))) as StoredRecord;
        return recent.record;
    }

    /** To be told of every batch that the disk has taken. */
    wrote(operations: readonly Operation[]): void {
        for (const operation of operations) {
            this.#forget(operation.key);
            if (operation.type === "put") this.#keep(operation.key, operation.value);
        }
        for (const path of this.#byPath.keys()) {
            if (this.#byPath.size <= MAX_RECORDS && this.#length <= MAX_LENGTH) return;
            this.#forget(path);
        }
    }

    clear(): void {
        this.#byPath.clear();
        this.#length = 0;
    }

    #keep(path: string, text: string): void {
        this.#byPath.set(path, { text });
        this.#length += path.length + text.length;
    }

    #forget(path: string): void {
        const recent = this.#byPath.get(path);
        if (recent === undefined) return;
        this.#byPath.delete(path);
        this.#length -= path.length + recent.text.length;
    }
}
