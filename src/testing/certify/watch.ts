import { closeSync, type FSWatcher, mkdirSync, openSync, readdirSync, readSync, statSync, watch } from "node:fs";
import { join } from "node:path";

/**
 * Tells of every growth, coming and going of the files in a folder, as the system sees it.
 *
 * @param onChange Told the file's name.
 */
export function watchFolder(directory: string, onChange: (name: string) => void): () => void {
    // Made as the component makes it, so that its first file can be seen too.
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const watcher: FSWatcher = watch(directory, (_event, name) => {
        // LevelDB's own log for people, and its lock, say nothing of the journal.
        if (name !== "LOG" && name !== "LOG.old" && name !== "LOCK") onChange(name ?? "");
    });
    watcher.on("error", () => {});
    return () => watcher.close();
}

/**
 * The same for what LevelDB's log gains, as it is written there: a record's text as it is, one character for each byte.
 *
 * @param onGrowth Told what has come since it was told last.
 */
export function watchLog(directory: string, onGrowth: (text: string) => void): () => void {
    const read = new Map<string, number>();
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(directory)) if (isLog(name)) read.set(name, sizeOf(join(directory, name)));
    return watchFolder(directory, (name) => {
        if (!isLog(name)) return;
        const from = read.get(name) ?? 0;
        const bytes = Buffer.alloc(Math.max(0, sizeOf(join(directory, name)) - from));
        if (bytes.length === 0) return;
        read.set(name, from + bytes.length);
        onGrowth(contentAt(join(directory, name), bytes, from).toString("latin1"));
    });
}

function isLog(name: string): boolean {
    return name.endsWith(".log");
}

function sizeOf(path: string): number {
    return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function contentAt(path: string, bytes: Buffer, from: number): Buffer {
    let file: number | undefined;
    try {
        file = openSync(path, "r");
        return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, from));
    } catch {
        // It has become a table.
        return Buffer.alloc(0);
    } finally {
        if (file !== undefined) closeSync(file);
    }
}
