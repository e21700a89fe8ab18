import type { Context } from "../../support/context.ts";
import { percentile } from "../../support/statistics.ts";
import type { Row } from "../../support/result.ts";
import { Chart } from "./chart.ts";
import type { Contestant } from "./contestants.ts";
import { type Mix, mixedLoad } from "./load.ts";
import { Runner, warmUpTrack } from "./runner.ts";
import { inTurn, type Track } from "./track.ts";

const PARTS = [
    ["p50", 0.5],
    ["p99", 0.99],
] as const;
/** Who uploads before or behind the event with the file in memory. */
const FIELD: readonly Contestant[] = ["bot-sdk", "appservice-bridge", "detached"];

interface Course {
    readonly name: string;
    readonly track: Track;
    readonly urlOf: (size: number) => string;
    readonly mixes: readonly Mix[];
}

/** The same mixed load for everybody, contestant after contestant; another one in the next run. */
export async function mixed(context: Context, { name, track, urlOf, mixes }: Course) {
    const over = "messages a second";
    const shape = mixes.length > 1 ? "lines" : "bars";
    const charts = PARTS.flatMap(([part, share]) => {
        const chart = (what: string, title: string) =>
            new Chart({ name: `${name}-${what}-${part}`, title: `${title}, ${part}`, over, unit: "ms", shape });
        return [
            { share, of: "toRoom", chart: chart("to-room", "Time until a message is in its room") },
            { share, of: "toFile", chart: chart("to-file", "Time until a file is downloadable") },
        ] as const;
    });
    const rss = new Chart({ name: `${name}-rss`, title: "Peak memory", over, unit: "MB", logarithmic: false, shape });
    const [{ rooms } = { rooms: [] }] = mixes;
    await warmUpTrack(context, track, { rooms, urlOf });
    for (let run = 0; run < context.runs; run++) {
        for (const mix of mixes) {
            for (const contestant of inTurn(run)) {
                const prefix = `${run} ${mix.perSecond} ${contestant}`;
                const isThere = await Runner.during(context, { contestant, track }, async (runner) => {
                    await runner.run(warmUp(mix, prefix, urlOf));
                    const outcome = await runner.run(mixedLoad(mix, { seed: run + 1, prefix, urlOf }));
                    for (const { share, of, chart } of charts) {
                        chart.add(contestant, `${mix.perSecond}`, percentile(outcome[of], share));
                    }
                    rss.add(contestant, `${mix.perSecond}`, outcome.peakRssMb);
                    context.log(
                        `${mix.perSecond} /s, ${contestant}: to file p50 ${percentile(outcome.toFile, 0.5).toFixed(0)} ` +
                            `p99 ${percentile(outcome.toFile, 0.99).toFixed(0)} ms, to room p99 ` +
                            `${percentile(outcome.toRoom, 0.99).toFixed(0)} ms, ${outcome.peakRssMb.toFixed(0)} MB`,
                    );
                });
                if (isThere) continue;
                for (const chart of [...charts.map((one) => one.chart), rss]) {
                    chart.failed(contestant, `${mix.perSecond}`, run);
                }
            }
        }
    }
    const rows = mixes.flatMap(({ perSecond }) =>
        charts
            .filter(({ of }) => of === "toFile")
            .map(({ share, chart }): Row => {
                const x = `${perSecond}`;
                const fastest = (run: number) =>
                    Math.min(...FIELD.map((one) => chart.values(one, x)[run] ?? Number.NaN).filter(Number.isFinite));
                return {
                    what: `time to file, p${share * 100}, ${x} messages a second, this project / the field's fastest`,
                    unit: "×",
                    values: chart.values("component", x).map((value, run) => value / fastest(run)),
                    atMost: 1,
                };
            }),
    );
    return { rows, figures: [...charts.map(({ chart }) => chart.figure()), rss.figure()] };
}

/** Ghosts are registered and have joined, connections are open and the code is compiled, for each size of file that comes. */
function warmUp({ rooms, kinds }: Mix, prefix: string, urlOf: (size: number) => string) {
    return [...rooms, ...rooms].map((room, i) => {
        const size = kinds[i]?.bytes ?? 1000;
        return { ...room, key: `${prefix} warm-up ${i}`, atMs: i * 20, file: { url: urlOf(size), size } };
    });
}
