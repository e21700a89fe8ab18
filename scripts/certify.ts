import { randomInt } from "node:crypto";
import { Command, InvalidArgumentError } from "commander";
import type * as Kit from "../src/testing/index.ts";
import { compiled } from "./compiled.ts";

/**
 * `npm run certify`: kills the component at its steps, thousands of times, and prints what was found; when it is ended
 * early too, with its processes and folders gone.
 */
const CODES = { SIGINT: 130, SIGTERM: 143 } as const;

interface Options {
    readonly kills: number;
    readonly seed?: number;
    readonly episode?: number;
    readonly parallel?: number;
    readonly store?: string;
    readonly connector?: string;
}

function whole(text: string): number {
    if (!/^\d{1,10}$/.test(text)) throw new InvalidArgumentError("It has to be a whole number.");
    return Number(text);
}

function positive(text: string): number {
    if (whole(text) === 0) throw new InvalidArgumentError("It has to be 1 at least.");
    return whole(text);
}

const command = new Command("npm run certify --")
    .description("Kills the component with SIGKILL at its steps and at random instants, and checks what it promised.")
    .option("--kills <number>", "how often", positive, 5000)
    .option("--seed <number>", "of the schedule; a report names it", whole)
    .option("--episode <number>", "only this one of the schedule", whole)
    .option("--parallel <number>", "episodes at once", positive)
    .option("--store <module>", "of a store: export default (directory) => Store", URL_OF)
    .option("--connector <module>", "of a connector: export default () => ({ connector, files })", URL_OF)
    .parse();

function URL_OF(path: string): string {
    return new URL(path, `file://${process.cwd()}/`).href;
}

const options = { seed: randomInt(2 ** 31), ...command.opts<Options>() };
const { seed, store, connector } = options;
const parts = `${store === undefined ? "" : ` --store ${store}`}${connector === undefined ? "" : ` --connector ${connector}`}`;
console.log(`seed ${seed}`);
const ending = new AbortController();
let code: number | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
        code ??= CODES[signal];
        ending.abort();
    });
const { certify } = (await import(new URL("testing/index.js", compiled()).href)) as typeof Kit;
let shown = 0;
let progress: Parameters<NonNullable<Kit.CertifyOptions["onProgress"]>>[0] = { kills: 0, violations: [] };
let told = 0;
const count = (): string => `${progress.kills} kills, ${progress.violations.length} findings`;
try {
    const report = await certify({
        ...options,
        signal: ending.signal,
        onProgress: (current) => {
            progress = current;
            const { kills, violations } = current;
            for (; told < violations.length; told++) console.log(violations[told]);
            if (kills - shown < 100) return;
            shown = kills;
            console.log(count());
        },
    });
    console.log(report.text);
    process.exitCode = report.passed ? 0 : 1;
} catch (error) {
    if (code === undefined) throw error;
    console.log(`ended early: ${count()}`);
    process.exitCode = code;
}
for (const episode of new Set(progress.violations.map((violation) => violation.episode)))
    console.log(`repeat it with: npm run certify -- --seed ${seed} --episode ${episode}${parts}`);
