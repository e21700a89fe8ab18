import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import PQueue from "p-queue";
import type { ClockReport, ClockRow } from "../support/faults/clock-cells.ts";
import { clockEnvironment, clockFaults, setClock } from "../support/faults/clock.ts";
import type { Fault } from "../support/faults/faults.ts";
import { STEPS, type Step } from "../support/faults/steps.ts";
import { judge } from "../support/faults/table.ts";
import { startS3rver } from "../support/s3rver.ts";
import type { S3 } from "../support/storage.ts";

const RUNNER = fileURLToPath(new URL("../support/faults/clock-cells.ts", import.meta.url));
/** Rows at once, each a process of its own. */
const SIDE_BY_SIDE = 3;
/** As in the matrix. */
const ONLY = new RegExp(process.env["FAULT_CELLS"] ?? "");

const nameOf = (step: Step, fault: Fault): string => `${step.name} × ${fault.name}`;

/** The matrix' rows of a clock that jumps at each step. */
describe("a clock that jumps at each step", function () {
    this.timeout(600_000);
    const rows = clockFaults().map((fault) => ({
        fault,
        steps: STEPS.filter((step) => typeof judge(fault, step) === "string" && ONLY.test(nameOf(step, fault))),
        reports: new Map<string, ClockReport>(),
        output: [] as string[],
    }));
    const running = new Map<string, Promise<void>>();
    let s3: S3;
    let folder: string;

    before(async () => {
        s3 = await startS3rver();
        folder = await mkdtemp(join(tmpdir(), "clock-"));
        const queue = new PQueue({ concurrency: SIDE_BY_SIDE });
        for (const row of rows) {
            const run = queue.add(() => runRow(row));
            // Heard by its tests below.
            run.catch(() => {});
            running.set(row.fault.name, run);
        }
    });
    after(async () => {
        await Promise.allSettled(running.values());
        await s3.close();
        await rm(folder, { recursive: true });
    });

    async function runRow({ fault, steps, reports, output }: (typeof rows)[number]): Promise<void> {
        if (steps.length === 0) return;
        const clockFile = join(folder, String(fault.clockMs));
        await setClock(clockFile, 0);
        const { url, accessKeyId, secretAccessKey } = s3;
        const names = steps.map(({ name }) => name);
        const row: ClockRow = { fault: fault.name, steps: names, clockFile, s3: { url, accessKeyId, secretAccessKey } };
        const child = fork(RUNNER, [JSON.stringify(row)], {
            execArgv: ["--import=./scripts/typescript.mjs"],
            stdio: ["ignore", "pipe", "pipe", "ipc"],
            env: { ...process.env, ...clockEnvironment(clockFile) },
        });
        for (const stream of [child.stdout, child.stderr])
            stream?.on("data", (text: Buffer) => output.push(text.toString()));
        child.on("message", (report: ClockReport) => void reports.set(report.step, report));
        await once(child, "exit");
    }

    for (const { fault, steps, reports, output } of rows) {
        for (const step of steps) {
            it(nameOf(step, fault), async () => {
                await running.get(fault.name);
                const report = reports.get(step.name);
                if (report === undefined) throw new Error(`It never ended: ${output.join("").slice(-4000)}`);
                if (report.failure !== undefined) throw new Error(report.failure);
            });
        }
    }
});
