import { runCell } from "./cell.ts";
import type { S3 } from "../storage.ts";
import { clockFaults, turnOwnClock } from "./clock.ts";
import { Meeting } from "./meeting.ts";
import { STEPS, type Step } from "./steps.ts";
import { judge } from "./table.ts";

/**
 * A row of turned clocks, in a process of its own: the cells that share its clock go side by side, a group at a time. The
 * clock jumps when each of the group has its request at the gate, and is set right when each has come to its end.
 */
export interface ClockRow {
    readonly fault: string;
    readonly steps: readonly string[];
    readonly clockFile: string;
    readonly s3: Omit<S3, "close">;
}

/** What became of a cell. */
export interface ClockReport {
    readonly step: string;
    readonly failure?: string;
}

const GROUP = 15;

const row = JSON.parse(process.argv[2] ?? "{}") as ClockRow;
const chosen = STEPS.filter(({ name }) => row.steps.includes(name));
const surroundings = { s3: { ...row.s3, close: async () => {} }, certificates: { good: { key: "", cert: "" } } };

async function runTogether(steps: readonly Step[]): Promise<void> {
    const turning = new Meeting(steps.length, () => turnOwnClock(row.clockFile, offsetOf(row.fault)));
    const turningBack = new Meeting(steps.length, () => turnOwnClock(row.clockFile, 0));
    await Promise.all(
        steps.map(async (step) => {
            const [turn, turnBack] = [turning.member(), turningBack.member()];
            const fault = clockFaults(turn.come, turnBack.come).find(({ name }) => name === row.fault);
            const outcome = fault && judge(fault, step);
            try {
                if (fault === undefined || typeof outcome !== "string") throw new Error(`no such cell: ${row.fault}`);
                await runCell({ fault, step, outcome }, surroundings);
                report({ step: step.name });
            } catch (error) {
                report({ step: step.name, failure: error instanceof Error ? (error.stack ?? "") : String(error) });
            } finally {
                turn.leave();
                turnBack.leave();
            }
        }),
    );
}

function offsetOf(fault: string): number {
    return clockFaults().find(({ name }) => name === fault)?.clockMs ?? 0;
}

function report(report: ClockReport): void {
    process.send?.(report);
}

// Nobody is there any more.
process.on("disconnect", () => process.exit());
for (let from = 0; from < chosen.length; from += GROUP) await runTogether(chosen.slice(from, from + GROUP));
process.exit();
