/**
 * Speed and memory of the component, measured as a bridge meets them: built output, a process of its own, partners in
 * other processes, everything on loopback. Each number that is compared has its baseline in the same run. What comes
 * out is kept in bench/results and shown in bench/README.md; nothing here is a test.
 */
import { Command, InvalidArgumentError } from "commander";
import { addressGuard } from "./measurements/address-guard.ts";
import { backlog } from "./measurements/backlog.ts";
import { encryption } from "./measurements/encryption.ts";
import { journalCost } from "./measurements/journal-cost.ts";
import type { Measurement } from "./measurements/measurement.ts";
import { memory } from "./measurements/memory.ts";
import { memoryOverTime } from "./measurements/memory-over-time.ts";
import { RACE } from "./measurements/race/race.ts";
import { messageRate } from "./measurements/message-rate.ts";
import { presigned } from "./measurements/presigned.ts";
import { sendLatency } from "./measurements/send-latency.ts";
import { sendUnderLoad } from "./measurements/send-under-load.ts";
import { stickers } from "./measurements/stickers.ts";
import { throughput } from "./measurements/throughput.ts";
import { build } from "./support/build.ts";
import { Context } from "./support/context.ts";
import { writePlot } from "./support/plot.ts";
import { saveResult, table, writeTables } from "./support/report.ts";
import { load, machine, type Result } from "./support/result.ts";

const MEASUREMENTS: readonly Measurement[] = [
    sendLatency,
    sendUnderLoad,
    throughput,
    presigned,
    memory,
    memoryOverTime,
    encryption,
    backlog,
    journalCost,
    addressGuard,
    stickers,
    messageRate,
    ...RACE,
];
const NAMES = MEASUREMENTS.map(({ name }) => name);
/** Names that stand for several. */
const GROUPS = new Map([["race", [...RACE, messageRate].map(({ name }) => name)]]);

interface Options {
    readonly only?: readonly string[];
    readonly runs: number;
    readonly quick: boolean;
    readonly built?: string;
    readonly save: boolean;
    readonly cpuProf?: string;
}

const {
    only = NAMES,
    runs,
    quick,
    built,
    save,
    cpuProf,
} = new Command("bench")
    .description("Measures speed and memory; writes bench/results and the tables of bench/README.md.")
    .option("--only <names...>", `only these: ${[...GROUPS.keys(), ...NAMES].join(", ")}`, knownNames)
    .option("--runs <n>", "how often each comparison is repeated", wholeNumber, 5)
    .option("--quick", "small sizes, to see that it works; nothing is written", false)
    .option("--built <dir>", "a built component to measure, instead of building this one; nothing is written")
    .option("--cpu-prof <dir>", "keep a CPU profile of each process that ends by itself; nothing is written besides")
    .option("--no-save", "write nothing")
    .parse()
    .opts<Options>();

const folder = await build(built);
for (const measurement of MEASUREMENTS.filter(({ name }) => only.includes(name))) {
    const { result, missing } = await run(measurement);
    console.log(`\n${table(result)}`);
    if (missing !== undefined) console.error(`  not kept, for want of ${missing}`);
    if (missing !== undefined || !save || quick || built !== undefined || cpuProf !== undefined) continue;
    await saveResult(result);
    for (const figure of result.figures ?? []) await writePlot(figure);
    await writeTables(NAMES);
}

async function run(measurement: Measurement): Promise<{ result: Result; missing: string | undefined }> {
    const { name, about, atMostRuns = Number.POSITIVE_INFINITY } = measurement;
    console.error(`${name}: ${about}`);
    const times = Math.min(runs, atMostRuns);
    const context = new Context({ runs: times, quick, built: folder, profiles: cpuProf });
    const before = load();
    try {
        const found = await measurement.measure(context);
        const findings = "rows" in found ? found : { rows: found };
        const measuredAt = new Date().toISOString();
        const circumstances = { name, about, measuredAt, ...machine(), load: [before, load()] as const };
        return { result: { ...circumstances, runs: times, ...findings }, missing: context.missing };
    } finally {
        await context.close();
    }
}

function knownNames(value: string, earlier: readonly string[] = []): string[] {
    const names = GROUPS.get(value) ?? NAMES.filter((name) => name === value);
    if (names.length === 0) throw new InvalidArgumentError(`known are: ${[...GROUPS.keys(), ...NAMES].join(", ")}`);
    return [...earlier, ...names];
}

function wholeNumber(value: string): number {
    if (!/^[1-9]\d{0,2}$/.test(value)) throw new InvalidArgumentError("must be a whole number from 1 to 999");
    return Number(value);
}
