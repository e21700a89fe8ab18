import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Builds `dist/`: ES modules by tsc, and for CommonJS one line for each entry that requires the ES module itself.
 * Every Node from 20.19 on can do that, and so a process never holds two copies of the package, however mixed its
 * callers are.
 *
 * TypeScript takes a `.d.ts` of an ES module for something that CommonJS cannot require, so each declaration is
 * written a second time as `.d.cts`. Declarations that no entry leads to are left out of the package.
 */

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
const ENTRIES = ["index", "testing/index"];
/** What a declaration imports; statements begin a line, so that examples in comments are none. */
const SPECIFIER = /(?<=^(?:import|export) [\w\s{},*]*?\bfrom "|^import "|\bimport\(")[^"]+(?=")/gm;

rmSync(dist, { recursive: true, force: true });
const tsc = join(root, "node_modules/typescript/bin/tsc");
const compiled = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json", "--inlineSources"], {
    cwd: root,
    stdio: "inherit",
});
// The compiler has said why.
if (compiled.status !== 0) process.exit(1);

const published = new Set<string>();
for (const entry of ENTRIES) {
    publish(join(dist, `${entry}.d.ts`));
    writeFileSync(
        join(dist, `${entry}.cjs`),
        `"use strict";\nmodule.exports = require("./${entry.split("/").pop()}.js");\n`,
    );
}
for (const name of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
    if (name.endsWith(".d.ts") && !published.has(join(dist, name))) rmSync(join(dist, name));
}

/** Makes the declaration, and those it leads to, readable from ES modules and from CommonJS. */
function publish(declaration: string): void {
    if (published.has(declaration)) return;
    published.add(declaration);
    const text = readFileSync(declaration, "utf8");
    const targets = [...text.matchAll(SPECIFIER)].map(([specifier]) => specifier);
    for (const specifier of targets) {
        if (specifier.startsWith("./") || specifier.startsWith("../")) {
            const target = join(dirname(declaration), specifier.replace(/\.ts$/, ".d.ts"));
            if (!existsSync(target)) throw new Error(`${declaration} leads to ${specifier}, which is not there`);
            publish(target);
        } else if (!specifier.startsWith("node:")) {
            // A bridge that compiles with `skipLibCheck: false` would have to cope with that package's types.
            throw new Error(`${declaration} needs the types of "${specifier}"`);
        }
    }
    // tsc rewrites the extensions of relative imports in code, but leaves them in declarations.
    const withExtension = (extension: string) =>
        text.replace(SPECIFIER, (specifier) => specifier.replace(/^(\.\.?\/.*)\.ts$/, `$1${extension}`));
    writeFileSync(declaration, withExtension(".js"));
    writeFileSync(declaration.replace(/\.d\.ts$/, ".d.cts"), withExtension(".cjs"));
}
