import { readdir } from "node:fs/promises";
import { ClassicLevel } from "classic-level";
import { systemCode } from "../errors.ts";
import { copyAside } from "./damaged-copy.ts";
import { damagedTables, mendTables, type TableDamage } from "./table-check.ts";

/** What can be wrong with LevelDB's folder, and how much of it can be saved. */

/**
 * Throws what LevelDB itself would not notice before it is too late: without CURRENT it takes a folder for empty, and
 * removes the tables in it.
 */
export async function checkFolder(directory: string): Promise<void> {
    const files = await readdir(directory);
    if (!files.includes("CURRENT") && files.some((name) => /^\d+\.(ldb|sst|log)$/.test(name))) {
        throw new Error("no CURRENT", { cause: corruption("CURRENT is missing") });
    }
    const tables = await damagedTables(directory);
    if (tables.length > 0) throw new Error("tables", { cause: corruption(inWords(tables)) });
}

/** Repairs the folder of a database that is not open, and returns the path of the copy that was put aside before. */
export async function repairFolder(directory: string): Promise<string> {
    const copy = await copyAside(directory);
    await mendTables(directory, await damagedTables(directory));
    await ClassicLevel.repair(directory);
    return copy;
}

function inWords(tables: readonly TableDamage[]): string {
    return tables.map(({ name, finding }) => `${name}: ${finding} damaged`).join(", ");
}

function corruption(message: string): Error {
    return Object.assign(new Error(message), { code: "LEVEL_CORRUPTION" });
}

/**
 * Damage that a repair may help: also a CURRENT that names a file which is not there, and a table that was cut. By LevelDB's
 * own words, because synchronous reads have no code.
 */
export function isCorruption(error: unknown): boolean {
    for (let cause = error; cause instanceof Error; cause = cause.cause) {
        if (systemCode(cause) === "LEVEL_CORRUPTION" || /^(?:Corruption|NotFound): /.test(cause.message)) return true;
        if (/^IO error: .*(?:No such file|Invalid argument)/.test(cause.message)) return true;
    }
    return false;
}
