import type { Sample } from "./processes/component.ts";
import { type Bound, type Point, type Trend, trendOf } from "./trend.ts";

export type Figures = Sample & { readonly journalMb: number };
export interface Measured {
    readonly seconds: number;
    /** Which life of the component it is of: after a kill the process begins anew, the data directory does not. */
    readonly life: number;
    readonly figures: Figures;
}

interface Figure {
    readonly name: keyof Figures;
    readonly unit: string;
    readonly bound: Bound;
    /** Of the process, not of the data directory: it begins anew with it. */
    readonly ofTheProcess: boolean;
}

/** Growth over a run's second half that is no trend. What is around nothing needs room for what is under way. */
const FIGURES: readonly Figure[] = [
    { name: "rssMb", unit: "MB", bound: { absolute: 16, relative: 0.1 }, ofTheProcess: true },
    { name: "heapMb", unit: "MB", bound: { absolute: 2, relative: 0.05 }, ofTheProcess: true },
    { name: "externalMb", unit: "MB", bound: { absolute: 4, relative: 0.1 }, ofTheProcess: true },
    { name: "handles", unit: "", bound: { absolute: 20, relative: 0.1 }, ofTheProcess: true },
    { name: "descriptors", unit: "", bound: { absolute: 20, relative: 0.1 }, ofTheProcess: true },
    { name: "pendingMessages", unit: "", bound: { absolute: 50, relative: 0 }, ofTheProcess: false },
    { name: "pendingJobs", unit: "", bound: { absolute: 50, relative: 0 }, ofTheProcess: false },
    { name: "reservations", unit: "", bound: { absolute: 10, relative: 0 }, ofTheProcess: false },
    { name: "spoolMb", unit: "MB", bound: { absolute: 2, relative: 0 }, ofTheProcess: false },
    { name: "journalMb", unit: "MB", bound: { absolute: 8, relative: 0.3 }, ofTheProcess: false },
];

export interface Judged {
    readonly name: string;
    readonly unit: string;
    /** Undefined where the run, or the component's last life, was too short to judge by. */
    readonly trend: Trend | undefined;
}

export function judge(measured: readonly Measured[]): Judged[] {
    const lastLife = measured.at(-1)?.life;
    return FIGURES.map(({ name, unit, bound, ofTheProcess }) => {
        const of = ofTheProcess ? measured.filter(({ life }) => life === lastLife) : measured;
        const points = of.map(({ seconds, figures }): Point => ({ seconds, value: figures[name] }));
        return { name, unit, trend: trendOf(points, bound) };
    });
}

export function line({ seconds, figures }: Measured, said: number): string {
    const { rssMb, heapMb, handles, descriptors, pendingMessages, pendingJobs, spoolMb, journalMb } = figures;
    return [
        `${seconds.toFixed(0).padStart(6)} s`,
        `said ${said}`,
        `rss ${rssMb.toFixed(0)} MB`,
        `heap ${heapMb.toFixed(1)} MB`,
        `handles ${handles}`,
        `fds ${descriptors}`,
        `backlog ${pendingMessages}+${pendingJobs}`,
        `spool ${spoolMb.toFixed(1)} MB`,
        `journal ${journalMb.toFixed(1)} MB`,
    ].join("  ");
}

export function table(judged: readonly Judged[]): string {
    const rows = judged.map(({ name, unit, trend }) => {
        if (trend === undefined) return [name, "", "", "", "", "too short to judge"];
        const { median, largest, growth, allowed, grows } = trend;
        const cell = (value: number): string => `${value.toFixed(1)} ${unit}`.trimEnd();
        return [name, cell(median), cell(largest), cell(growth), cell(allowed), grows ? "GROWS" : "steady"];
    });
    const head = ["figure", "median", "largest", "growth", "allowed", ""];
    const widths = head.map((title, column) =>
        Math.max(...[head, ...rows].map((row) => row[column]?.length ?? title.length)),
    );
    return [head, ...rows]
        .map((row) =>
            row
                .map((cell, column) => cell.padEnd(widths[column] ?? 0))
                .join("  ")
                .trimEnd(),
        )
        .join("\n");
}
