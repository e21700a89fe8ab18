import { execFile } from "node:child_process";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, "..", "..");

/** Where the processes of the benchmarks are compiled to. */
export const COMPILED = join(ROOT, ".tmp", "bench");

/** Builds the package as it is published, and the processes that use it; returns the folder of the built component. */
export async function build(given: string | undefined): Promise<string> {
    await run(join(ROOT, "node_modules", ".bin", "tsc"), ["-p", join(ROOT, "bench", "tsconfig.json")], { cwd: ROOT });
    if (given !== undefined) return resolve(given);
    await run("npm", ["run", "build"], { cwd: ROOT });
    return join(ROOT, "dist");
}
