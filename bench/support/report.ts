import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Figure, measured, type Point, type Result, type Row } from "./result.ts";
import { median } from "./statistics.ts";

const RESULTS = resolve(import.meta.dirname, "..", "results");
const README = resolve(import.meta.dirname, "..", "README.md");
const BEGIN = "<!-- results: written by bench/main.ts -->";
const END = "<!-- end of results -->";

export async function saveResult(result: Result): Promise<void> {
    await mkdir(RESULTS, { recursive: true });
    await writeFile(join(RESULTS, `${result.name}.json`), `${JSON.stringify(result, undefined, 4)}\n`);
}

/** Writes the tables of all kept results into bench/README.md; `order` is that of the measurements. */
export async function writeTables(order: readonly string[]): Promise<void> {
    const kept = new Set(await readdir(RESULTS));
    const names = order.filter((name) => kept.has(`${name}.json`));
    const results = await Promise.all(
        names.map(async (name) => JSON.parse(await readFile(join(RESULTS, `${name}.json`), "utf8")) as Result),
    );
    const readme = await readFile(README, "utf8");
    const [before = ""] = readme.split(BEGIN);
    const [, after = ""] = readme.split(END);
    await writeFile(README, `${before}${BEGIN}\n\n${results.map(table).join("\n")}\n${END}${after}`);
}

export function table(result: Result): string {
    const { about, rows, runs, measuredAt, node, cores, cpu, load } = result;
    return [
        `### ${about}`,
        "",
        `${runs} runs, ${measuredAt.slice(0, 10)}, Node ${node.slice(1)}, ${cores} cores (${cpu}), load average ` +
            `${load[0]} before and ${load[1]} after.`,
        "",
        "| | target | median | range | |",
        "| --- | --- | --- | --- | --- |",
        ...rows.map(line),
        "",
        ...(result.figures ?? []).map(comparison),
    ].join("\n");
}

/** A column for each contestant, and the plot of the same figures. */
function comparison({ name, title, over, unit, series }: Figure): string {
    const xs = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))];
    return [
        `#### ${title}`,
        "",
        `Median and range, ${unit}.`,
        "",
        `| ${[over, ...series.map((one) => one.name)].join(" | ")} |`,
        `| ${[over, ...series].map(() => "---").join(" | ")} |`,
        ...xs.map(
            (x) => `| ${[x, ...series.map(({ points }) => cell(points.find((point) => point.x === x)))].join(" | ")} |`,
        ),
        "",
        `![${title}](plots/${name}.svg)`,
        "",
    ].join("\n");
}

function cell(point: Point | undefined): string {
    if (point === undefined) return "";
    const { note = "" } = point;
    const values = measured(point);
    if (values.length === 0) return note;
    return `${shown(median(values))} (${shown(Math.min(...values))} to ${shown(Math.max(...values))})`;
}

function line(row: Row): string {
    const { what, unit, values, atMost, atLeast } = row;
    const target = atMost !== undefined ? `≤ ${atMost} ${unit}` : atLeast !== undefined ? `≥ ${atLeast} ${unit}` : "";
    const range = `${shown(Math.min(...values))} to ${shown(Math.max(...values))}`;
    return `| ${what} | ${target} | ${shown(median(values))} ${unit} | ${range} | ${verdict(row)} |`;
}

function verdict({ values, atMost, atLeast }: Row): string {
    if (atMost === undefined && atLeast === undefined) return "";
    const value = median(values);
    const isMet = value <= (atMost ?? value) && value >= (atLeast ?? value);
    return isMet ? "met" : "**missed**";
}

function shown(value: number): string {
    return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
