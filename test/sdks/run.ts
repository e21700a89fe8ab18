import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { npm, pack } from "../support/pack.ts";

/**
 * `npm run test:sdks`: installs every promised SDK version, and the packed package beside them as a bridge would, and
 * runs the scenario for each on this Node, on 22 and on 24, as far as the SDK's `engines` allow.
 */

const HERE = fileURLToPath(new URL(".", import.meta.url));
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SDKS = [
    "matrix-appservice-bridge-10",
    "matrix-appservice-bridge-11",
    "matrix-bot-sdk-7",
    "matrix-bot-sdk-8",
    "@vector-im/matrix-bot-sdk",
];
const RUN_LIMIT_MS = 300_000;

interface Manifest {
    readonly name: string;
    readonly version: string;
    readonly engines?: { readonly node?: string };
}
interface Report {
    readonly stats: { readonly passes: number; readonly failures: number };
    readonly failures: readonly { readonly fullTitle: string; readonly err: { readonly stack?: string } }[];
}

const temporary = await mkdtemp(join(tmpdir(), "sdks-"));
try {
    process.exitCode = (await main()) ? 0 : 1;
} finally {
    await rm(temporary, { recursive: true, force: true });
}

async function main(): Promise<boolean> {
    console.log("Installing the SDKs and the packed package …");
    await npm(["ci", "--loglevel=error"], HERE);
    const { tarball } = await pack(ROOT, temporary);
    await npm(["install", "--no-save", "--no-package-lock", "--loglevel=error", tarball], HERE);

    let passed = 0;
    let failed = 0;
    for (const node of await nodes()) {
        for (const sdk of SDKS) {
            const { name, version, engines } = await manifestOf(sdk);
            const least = Number(/^>=\s*(\d+)/.exec(engines?.node ?? ">=0")?.[1]);
            if (node.major < least) {
                console.log(`  ${name} ${version} on Node ${node.version}: not run, it needs ${engines?.node}`);
                continue;
            }
            const report = await scenario(node.path, sdk);
            passed += report.stats.passes;
            failed += report.stats.failures;
            const outcome = `${report.stats.passes} passed, ${report.stats.failures} failed`;
            console.log(`  ${name} ${version} on Node ${node.version}: ${outcome}`);
            for (const { fullTitle, err } of report.failures) console.log(`    ${fullTitle}\n${err.stack ?? ""}`);
        }
    }
    console.log(`${passed} passed, ${failed} failed`);
    return failed === 0 && passed > 0;
}

/** This Node, and those that are installed as packages. */
async function nodes(): Promise<{ path: string; version: string; major: number }[]> {
    const found = new Map<number, { path: string; version: string; major: number }>();
    for (const path of [
        process.execPath,
        ...["node22", "node24"].map((it) => join(HERE, "node_modules", it, "bin/node")),
    ]) {
        const { stdout } = await promisify(execFile)(path, ["--version"]);
        const version = stdout.trim().slice(1);
        const major = Number.parseInt(version, 10);
        if (!found.has(major)) found.set(major, { path, version, major });
    }
    return [...found.values()];
}

async function manifestOf(sdk: string): Promise<Manifest> {
    return JSON.parse(await readFile(join(HERE, "node_modules", sdk, "package.json"), "utf8")) as Manifest;
}

async function scenario(node: string, sdk: string): Promise<Report> {
    const output = join(temporary, "report.json");
    await rm(output, { force: true });
    const mocha = join(ROOT, "node_modules/mocha/bin/mocha.js");
    const args = [mocha, "--reporter=json", `--reporter-option=output=${output}`, join(HERE, "versions.test.ts")];
    const env = { ...process.env, SDK: sdk };
    // mocha exits with the number of failures; its report says more.
    const ended = await promisify(execFile)(node, args, { cwd: ROOT, env, timeout: RUN_LIMIT_MS }).catch(
        (error: unknown) => error as { stderr?: string },
    );
    try {
        return JSON.parse(await readFile(output, "utf8")) as Report;
    } catch {
        const failure = { fullTitle: `${sdk} did not get to its tests`, err: { stack: ended.stderr ?? "" } };
        return { stats: { passes: 0, failures: 1 }, failures: [failure] };
    }
}
