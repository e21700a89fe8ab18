import { chmod, cp, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";

/**
 * Copies a database's folder aside before a repair, for this user only: it holds presigned addresses and headers.
 * The copy's folder has its mode before anything is in it. Returns its path.
 */
export async function copyAside(directory: string): Promise<string> {
    const copy = `${directory}.damaged-${Date.now()}`;
    await mkdir(copy, { mode: 0o700 });
    await cp(directory, copy, { recursive: true });
    for (const entry of await readdir(copy, { recursive: true, withFileTypes: true })) {
        await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o700 : 0o600);
    }
    return copy;
}
