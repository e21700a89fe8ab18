import { cpus, loadavg } from "node:os";

/** One line of the table. */
export interface Row {
    readonly what: string;
    readonly unit: "×" | "ms" | "s" | "MB" | "MB/s" | "%" | "/s" | "transfers";
    /** One value for each run. */
    readonly values: readonly number[];
    /** What the median should keep to; absent where the row only explains another. */
    readonly atMost?: number;
    readonly atLeast?: number;
}

export interface Result {
    readonly name: string;
    readonly about: string;
    readonly measuredAt: string;
    readonly node: string;
    readonly cores: number;
    readonly cpu: string;
    /** One-minute load average of the machine before and after. */
    readonly load: readonly [before: number, after: number];
    readonly runs: number;
    readonly rows: readonly Row[];
}

export function machine(): Pick<Result, "node" | "cores" | "cpu"> {
    return { node: process.version, cores: cpus().length, cpu: cpus()[0]?.model ?? "unknown" };
}

export function load(): number {
    return Math.round((loadavg()[0] ?? 0) * 100) / 100;
}
