/**
 * The server's memory across restarts: one file of JSON lines, written only at its end and read once, at the start.
 *
 * Records that arrive while a write is under way go out together in the next one, so the cost of the disk is shared.
 * What `append` has resolved for is in the operating system's hands and survives a kill -9 of this process (not a power
 * cut: nothing is synced). A kill in the middle of a write leaves a cut last line, which was never acknowledged; the next
 * start drops it.
 */
import { open, truncate, type FileHandle } from "node:fs/promises";

const NEWLINE = 0x0a;

export class Journal {
    readonly #file: FileHandle;
    #lines: string[] = [];
    #writing: Promise<void> = Promise.resolve();
    /** The write that will take the lines collected now; undefined when none is collected. */
    #next: Promise<void> | undefined;

    private constructor(file: FileHandle) {
        this.#file = file;
    }

    /** Hands every record of an earlier run to `replay`, in order, then opens the file for more. */
    static async open(path: string, replay: (record: unknown) => void): Promise<Journal> {
        const { wholeBytes, fileBytes } = await readLines(path, (line) => replay(JSON.parse(line)));
        if (wholeBytes < fileBytes) await truncate(path, wholeBytes);
        return new Journal(await open(path, "a"));
    }

    /** `json` is one record, without line breaks (JSON.stringify makes none). */
    append(json: string): Promise<void> {
        this.#lines.push(json);
        this.#next ??= this.#writing = this.#writing.then(() => this.#flush());
        return this.#next;
    }

    async close(): Promise<void> {
        await this.#writing;
        await this.#file.close();
    }

    async #flush(): Promise<void> {
        const text = `${this.#lines.join("\n")}\n`;
        this.#lines = [];
        this.#next = undefined;
        await this.#file.appendFile(text);
    }
}

async function readLines(
    path: string,
    take: (line: string) => void,
): Promise<{ wholeBytes: number; fileBytes: number }> {
    const file = await open(path, "a+");
    let rest = Buffer.alloc(0);
    let fileBytes = 0;
    // The stream closes the file at its end and when `take` throws.
    for await (const chunk of file.createReadStream({ start: 0 }) as AsyncIterable<Buffer>) {
        fileBytes += chunk.length;
        const data = Buffer.concat([rest, chunk]);
        let from = 0;
        for (let end = data.indexOf(NEWLINE); end !== -1; end = data.indexOf(NEWLINE, from)) {
            take(data.toString("utf8", from, end));
            from = end + 1;
        }
        rest = data.subarray(from);
    }
    return { wholeBytes: fileBytes - rest.length, fileBytes };
}
