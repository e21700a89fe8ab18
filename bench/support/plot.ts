import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { BarChart, CustomChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TitleComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { type Figure, measured, type Point, type Series } from "./result.ts";
import { median } from "./statistics.ts";

/**
 * A figure as a picture: a line for each contestant through the medians, with a
 * whisker from the least to the greatest run. It is drawn for the light page; where the reader's is dark, a style in the
 * picture turns what is dark light.
 */
use([BarChart, LineChart, CustomChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

const PLOTS = resolve(import.meta.dirname, "..", "plots");
const WIDTH = 860;
const HEIGHT = 400;
const WHISKER = 4;
/** Told apart also by those who do not see red and green (Okabe and Ito), and on both backgrounds. */
const COLOURS = ["#1f83c4", "#e69f00", "#cc5500", "#c25a9c", "#808080"] as const;
const SYMBOLS = ["circle", "rect", "triangle", "diamond", "circle"] as const;
const INK = "#24292f";
const LINES = "#d0d7de";
const DARK = `<style>@media (prefers-color-scheme: dark) {
text[fill="${INK}"] { fill: #e6edf3 } [stroke="${INK}"] { stroke: #8d96a0 } [stroke="${LINES}"] { stroke: #3d444d }
}</style>`;

export async function writePlot(figure: Figure, folder = PLOTS): Promise<void> {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${figure.name}.svg`), `${svgOf(figure)}\n`);
}

export function svgOf(figure: Figure): string {
    const chart = init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: HEIGHT });
    try {
        chart.setOption(optionOf(figure));
        return chart.renderToSVGString().replace(/(<svg[^>]*>)/, `$1${DARK}`);
    } finally {
        chart.dispose();
    }
}

function optionOf({ title, over, unit, logarithmic, shape, series }: Figure) {
    const xs = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))];
    const text = { color: INK, fontFamily: "sans-serif" };
    const line = { lineStyle: { color: INK } };
    return {
        animation: false,
        backgroundColor: "transparent",
        textStyle: text,
        title: {
            text: title,
            left: "center",
            top: 8,
            textStyle: { ...text, fontSize: 15, fontWeight: "bold" as const },
        },
        legend: { bottom: 8, itemGap: 34, textStyle: text, data: series.map(({ name }) => name) },
        grid: { left: 72, right: 24, top: 48, bottom: 84 },
        xAxis: {
            type: "category" as const,
            data: xs,
            name: over,
            nameLocation: "middle" as const,
            nameGap: 30,
            nameTextStyle: text,
            axisLabel: text,
            axisLine: line,
        },
        yAxis: {
            ...(logarithmic ? { type: "log" as const, ...floor(series) } : { type: "value" as const }),
            name: unit,
            nameLocation: "middle" as const,
            nameGap: 52,
            nameTextStyle: text,
            axisLabel: { ...text, formatter: (value: number) => value.toLocaleString("en") },
            axisLine: { ...line, show: true },
            splitLine: { lineStyle: { color: LINES } },
        },
        series:
            shape === "bars"
                ? series.map(bars)
                : series.flatMap((one, index) => [curve(one, index), whiskers(one, index, xs)]),
    };
}

function curve({ name, points }: Series, index: number) {
    return {
        type: "line" as const,
        name,
        symbol: SYMBOLS[index % SYMBOLS.length] ?? "circle",
        symbolSize: 8,
        itemStyle: { color: colour(index) },
        lineStyle: { color: colour(index), width: 2 },
        data: medians(points),
    };
}

function bars({ name, points }: Series, index: number) {
    return {
        type: "bar" as const,
        name,
        itemStyle: { color: colour(index) },
        data: medians(points),
    };
}

/** The power of ten below all values: bars stand on it, where they would hang from 1. */
function floor(series: readonly Series[]) {
    const least = Math.min(...series.flatMap(({ points }) => points.flatMap(measured)));
    const power = Number.isFinite(least) && least > 0 ? 10 ** Math.floor(Math.log10(least)) : 1;
    return { min: power, startValue: power };
}

function medians(points: readonly Point[]) {
    return points
        .map((point) => ({ x: point.x, values: measured(point) }))
        .filter(({ values }) => values.length > 0)
        .map(({ x, values }) => [x, median(values)]);
}

function colour(index: number): string {
    return COLOURS[index % COLOURS.length] ?? INK;
}

function whiskers({ points }: Series, index: number, xs: readonly string[]) {
    const ranges = points.map((point) => ({ x: point.x, values: measured(point) }));
    return {
        type: "custom" as const,
        // Not `name`: the legend has the curve's.
        id: `range ${index}`,
        silent: true,
        data: ranges
            .filter(({ values }) => values.length > 1)
            .map(({ x, values }) => [xs.indexOf(x), Math.min(...values), Math.max(...values)]),
        renderItem: (_: unknown, api: { value(dimension: number): unknown; coord(point: number[]): number[] }) => {
            const place = Number(api.value(0));
            const [x = 0, low = 0] = api.coord([place, Number(api.value(1))]);
            const [, high = 0] = api.coord([place, Number(api.value(2))]);
            const style = { stroke: colour(index), lineWidth: 1.2 };
            const stroke = (x1: number, y1: number, x2: number, y2: number) => {
                return { type: "line" as const, shape: { x1, y1, x2, y2 }, style };
            };
            return {
                type: "group" as const,
                children: [
                    stroke(x, low, x, high),
                    stroke(x - WHISKER, low, x + WHISKER, low),
                    stroke(x - WHISKER, high, x + WHISKER, high),
                ],
            };
        },
    };
}
