import { cpus, loadavg } from "node:os";

export type Unit = "×" | "ms" | "s" | "MB" | "MB/s" | "%" | "/s" | "transfers" | "s/GiB";

/** One line of the table. */
export interface Row {
    readonly what: string;
    readonly unit: Unit;
    /** One value for each run. */
    readonly values: readonly number[];
    /** What the median should keep to; absent where the row only explains another. */
    readonly atMost?: number;
    readonly atLeast?: number;
}

/** One measure of several contestants, as something grows: a plot, and a table with a column for each of them. */
export interface Figure {
    /** Of the plot's file. */
    readonly name: string;
    readonly title: string;
    /** What grows. */
    readonly over: string;
    readonly unit: Unit;
    readonly logarithmic: boolean;
    /** Lines where something grows, bars where cases are only named. */
    readonly shape: "lines" | "bars";
    readonly series: readonly Series[];
}

export interface Series {
    readonly name: string;
    readonly points: readonly Point[];
}

export interface Point {
    readonly x: string;
    /** One value for each run; none where it was not measured. */
    readonly values: readonly number[];
    /** Why it was not. */
    readonly note?: string;
}

/** The values that there are: JSON keeps a run that failed as null. */
export function measured({ values }: Point): number[] {
    return values.filter((value) => Number.isFinite(value));
}

export interface Findings {
    readonly rows: readonly Row[];
    readonly figures: readonly Figure[];
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
    readonly figures?: readonly Figure[];
}

export function machine(): Pick<Result, "node" | "cores" | "cpu"> {
    return { node: process.version, cores: cpus().length, cpu: cpus()[0]?.model ?? "unknown" };
}

export function load(): number {
    return Math.round((loadavg()[0] ?? 0) * 100) / 100;
}
