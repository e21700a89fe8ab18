import { cp, readdir, rm, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { systemCode } from "../../src/errors.ts";
import { until } from "./until.ts";

/**
 * Copies the data folder of a component that goes on working, as a kill at one instant leaves it. LevelDB merges its
 * tables when it likes: a copy during which a file came, went or grew is of no instant, and is made again. Only its log
 * may grow meanwhile: what is there of it is its beginning, and no other file knows of the rest.
 *
 * @param image Is made; empty where it is there.
 */
export async function copyImage(dataDir: string, image: string): Promise<void> {
    const isOfOneInstant = async (): Promise<boolean> => {
        try {
            const before = await listing(dataDir);
            // The count first: it may lag behind, as after a power cut, but not run ahead.
            await cp(join(dataDir, COUNT), join(image, COUNT));
            await cp(dataDir, image, { recursive: true, filter: (path) => relative(dataDir, path) !== COUNT });
            if ((await listing(dataDir)) === before) return true;
        } catch (error) {
            if (systemCode(error) !== "ENOENT") throw error;
        }
        await rm(image, { recursive: true, force: true });
        return false;
    };
    await until(isOfOneInstant, { what: `a copy of ${dataDir}` });
}

const COUNT = join("journal", "COUNT");

/** Names and sizes, but for the size of a log. */
async function listing(folder: string): Promise<string> {
    const names = await readdir(folder, { recursive: true });
    const found = await Promise.all(
        names.toSorted().map(async (name) => {
            const { size } = await stat(join(folder, name));
            return name.endsWith(".log") ? name : `${name} ${size}`;
        }),
    );
    return found.join("\n");
}
