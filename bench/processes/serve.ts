import { readFileSync } from "node:fs";

/**
 * The child's side of support/child.ts: answers calls that come over the IPC channel. A child ends when its parent
 * has gone, so nothing outlives a benchmark that was broken off.
 */

/** What a process can be asked; one plain JSON argument, one plain JSON answer. */
export type Handlers<H> = { readonly [Name in keyof H]: (argument: never) => Promise<unknown> };

export interface Call {
    readonly id: number;
    readonly name: string;
    readonly argument: unknown;
}

export interface Answer {
    readonly id: number;
    readonly value?: unknown;
    readonly error?: string;
}

export interface Usage {
    /** User and system time of this process since it began. */
    readonly cpuSeconds: number;
    /** VmHWM: the largest resident set so far. */
    readonly peakRssMb: number;
}

export function serve<H extends Handlers<H>>(handlers: H): void {
    const byName = handlers as unknown as Record<string, (argument: unknown) => Promise<unknown>>;
    const answer = async ({ id, name, argument }: Call): Promise<void> => {
        let reply: Answer;
        try {
            const handler = byName[name];
            if (handler === undefined) throw new Error(`no such call: ${name}`);
            reply = { id, value: await handler(argument) };
        } catch (error) {
            reply = { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
        }
        process.send?.(reply);
    };
    process.on("message", (call: Call) => void answer(call));
    process.on("disconnect", () => process.exit());
}

export async function usage(): Promise<Usage> {
    const { userCPUTime, systemCPUTime } = process.resourceUsage();
    // Not `maxRSS`: Linux lets a child begin with its parent's. The kernel's own figure for this program is VmHWM.
    const [, kilobytes = "0"] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    return { cpuSeconds: (userCPUTime + systemCPUTime) / 1e6, peakRssMb: Number(kilobytes) / 1024 };
}
