import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = resolve(fileURLToPath(new URL("..", import.meta.url)));

/**
 * Compiles the product and its kit, as they are published, or another project, into a folder of this process' own, which is gone
 * when it ends, and returns its URL. A process that is started hundreds of times would spend most of its life on translating itself.
 *
 * @param project The project's settings, seen from the repository's root.
 */
export function compiled(project = "tsconfig.build.json"): URL {
    // Below the repository, so that its dependencies are found.
    const folder = join(root, ".tmp");
    mkdirSync(folder, { recursive: true });
    const out = mkdtempSync(join(folder, `compiled-${process.pid}-`));
    process.once("exit", () => rmSync(out, { recursive: true, force: true }));
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    // No declarations: formatters would find them.
    const args = [tsc, "-p", project, "--outDir", out, "--declaration", "false"];
    const { status, stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
    if (status !== 0) throw new Error(stdout);
    return pathToFileURL(`${out}/`);
}
