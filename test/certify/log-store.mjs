import { open, readFile } from "node:fs/promises";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

/**
 * A store as somebody else may write one: everything in memory, and a log of commits, a line each, that is flushed before a
 * commit resolves. What a kill has cut off is the last line, which nobody was told of.
 */
export class LogStore {
    #path;
    #log;
    #records = new Map();
    #writing = Promise.resolve();
    #closed = false;

    constructor(directory) {
        mkdirSync(directory, { recursive: true });
        this.#path = join(directory, "commits.log");
    }

    async open() {
        const text = await readFile(this.#path, "utf8").catch(() => "");
        const whole = text.slice(0, text.lastIndexOf("\n") + 1);
        for (const line of whole.split("\n").slice(0, -1)) this.#apply(JSON.parse(line));
        this.#log = await open(this.#path, "a");
        await this.#log.truncate(Buffer.byteLength(whole));
    }

    async get(collection, key) {
        const text = this.#records.get(`${collection}\0${key}`);
        return text === undefined ? undefined : JSON.parse(text);
    }

    async *range(range) {
        for (const [key, text] of this.#within(range)) yield [key, JSON.parse(text)];
    }

    async *keys(range) {
        for (const [key] of this.#within(range)) yield key;
    }

    commit(writes) {
        if (this.#closed) return Promise.reject(Object.assign(new Error("closed"), { code: "CLOSED" }));
        const line = JSON.stringify(writes);
        this.#writing = this.#writing.then(() => this.write(this.#log, `${line}\n`)).then(() => this.#apply(JSON.parse(line)));
        return this.#writing;
    }

    async close() {
        this.#closed = true;
        await this.#writing;
        await this.#log?.close();
    }

    /** Resolves when the text is on the disk. */
    async write(log, text) {
        await log.appendFile(text);
        await log.datasync();
    }

    #apply(writes) {
        for (const { collection, key, record } of writes) {
            if (record === undefined) this.#records.delete(`${collection}\0${key}`);
            else this.#records.set(`${collection}\0${key}`, JSON.stringify(record));
        }
    }

    #within({ collection, prefix = "", after, before, limit = Number.POSITIVE_INFINITY }) {
        const start = `${collection}\0`;
        const bytes = (text) => Buffer.from(text);
        const found = [];
        for (const [path, text] of this.#records) {
            if (!path.startsWith(start + prefix)) continue;
            const key = path.slice(start.length);
            if (after !== undefined && Buffer.compare(bytes(key), bytes(after)) <= 0) continue;
            if (before !== undefined && Buffer.compare(bytes(key), bytes(before)) >= 0) continue;
            found.push([key, text]);
        }
        found.sort(([one], [other]) => Buffer.compare(bytes(one), bytes(other)));
        return found.slice(0, limit);
    }
}

export default (directory) => new LogStore(directory);
