import { type FSWatcher, mkdirSync, watch } from "node:fs";

/** Tells of every growth, coming and going of the files in a folder, as the system sees it. */
export function watchFolder(directory: string, onChange: () => void): () => void {
    // Made as the component makes it, so that its first file can be seen too.
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const watcher: FSWatcher = watch(directory, (_event, name) => {
        // LevelDB's own log for people, and its lock, say nothing of the journal.
        if (name !== "LOG" && name !== "LOG.old" && name !== "LOCK") onChange();
    });
    watcher.on("error", () => {});
    return () => watcher.close();
}
