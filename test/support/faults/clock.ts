import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { steadyNow } from "../../../src/uploads/steady-clock.ts";
import { until } from "../until.ts";
import type { Fault } from "./faults.ts";

/** A process whose clock a test turns: libfaketime beneath it. The monotonic clock, by which timers run, stays true. */

/** The multi-threaded one: node has several. Debian's package `faketime`. */
const LIBRARY = `/usr/lib/${{ x64: "x86_64", arm64: "aarch64" }[process.arch as string] ?? process.arch}-linux-gnu/faketime/libfaketimeMT.so.1`;

/** For a process whose clock is what `setClock` says of the same file. */
export function clockEnvironment(file: string): NodeJS.ProcessEnv {
    if (!existsSync(LIBRARY)) throw new Error("These tests need the package faketime: apt-get install faketime");
    return {
        LD_PRELOAD: LIBRARY,
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_NO_CACHE: "1",
        FAKETIME_DONT_FAKE_MONOTONIC: "1",
    };
}

/** By so much from the true time; takes effect with the next look at the clock. */
export function setClock(file: string, offsetMs: number): Promise<void> {
    const seconds = Math.trunc(offsetMs / 1000);
    return writeFile(file, seconds < 0 ? String(seconds) : `+${seconds}`);
}

/** The same for the process that it runs in, once it can be seen there. */
export async function turnOwnClock(file: string, offsetMs: number): Promise<void> {
    await setClock(file, offsetMs);
    await until(() => Math.abs(Date.now() - steadyNow() - offsetMs) < MINUTE, { what: "the clock turned" });
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Within an unused address' life of 24 hours, and far beyond it. */
const JUMPS = [
    ["clock 3 hours ahead", 3 * HOUR],
    ["clock 3 days ahead", 72 * HOUR],
    ["clock 3 hours back", -3 * HOUR],
    ["clock 3 days back", -72 * HOUR],
] as const;

/**
 * Rows of the matrix that turn the clock of the component's process while the request of the step is at its gate; everybody
 * else's stays right. When all has come to its end it is right again, for the restart.
 */
export function clockFaults(
    turn: (offsetMs: number) => Promise<void> = async () => {},
    turnBack: () => Promise<void> = async () => {},
): readonly Fault[] {
    return JUMPS.map(([name, clockMs]) => ({
        name,
        clockMs,
        times: 1,
        async strike({ pass }) {
            await turn(clockMs);
            pass();
        },
        lift: turnBack,
    }));
}
