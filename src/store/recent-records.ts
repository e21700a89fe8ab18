import type { Operation } from "./level-keys.ts";
import type { StoredRecord } from "./store.ts";

/**
 * The records that were written last: a message is read again twice within milliseconds of its writing, and to have it
 * from LevelDB and prove its checksum is a tenth of a send. What is kept is the text that was written: every reader gets an
 * object of its own, whatever others do with theirs.
 */

const MAX_RECORDS = 1024;
/** Of UTF-16 units: at most twice as many bytes. */
const MAX_LENGTH = 1024 * 1024;

export class RecentRecords {
    readonly #byPath = new Map<string, string>();
    #length = 0;

    get(path: string): StoredRecord | undefined {
        const text = this.#byPath.get(path);
        return text === undefined ? undefined : (JSON.parse(text.slice(text.indexOf("{"))) as StoredRecord);
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
        this.#byPath.set(path, text);
        this.#length += path.length + text.length;
    }

    #forget(path: string): void {
        const text = this.#byPath.get(path);
        if (text === undefined) return;
        this.#byPath.delete(path);
        this.#length -= path.length + text.length;
    }
}

/** Rows of lists, whose keys say everything: nobody asks for one. */
function isEmpty(text: string): boolean {
    return text.endsWith(" {}");
}
