import type { Operation } from "./level-keys.ts";
import type { StoredRecord } from "./store.ts";

/**
 * The records that were written last: a message and its jobs are read again several times within milliseconds of their
 * writing, and to have them from LevelDB and prove their checksums is a tenth of a send. What is kept is the text that was
 * written, not the object, of which parts are the caller's; it is parsed once, for all readers. So no reader may change
 * a record, nor give a part of one to code that might.
 */

const MAX_RECORDS = 1024;
/** Of UTF-16 units: at most twice as many bytes. */
const MAX_LENGTH = 1024 * 1024;

interface Recent {
    readonly text: string;
    /** Once somebody has asked for it. */
    record: StoredRecord | undefined;
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

    /** To be told of every batch before it is written: from then on a look at the keys may show it. */
    writing(operations: readonly Operation[]): void {
        for (const { key } of operations) this.#forget(key);
    }

    /** To be told of it again when the disk has taken it. */
    wrote(operations: readonly Operation[]): void {
        for (const operation of operations) {
            this.#forget(operation.key);
            if (operation.type === "put" && !isEmpty(operation.value)) this.#keep(operation.key, operation.value);
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
        this.#byPath.set(path, { text, record: undefined });
        this.#length += path.length + text.length;
    }

    #forget(path: string): void {
        const recent = this.#byPath.get(path);
        if (recent === undefined) return;
        this.#byPath.delete(path);
        this.#length -= path.length + recent.text.length;
    }
}

/** Rows of lists, whose keys say everything: nobody asks for one. */
function isEmpty(text: string): boolean {
    return text.endsWith(" {}");
}
