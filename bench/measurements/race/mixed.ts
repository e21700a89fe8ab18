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
    const files = new FilesOfLoads();
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
                    files.add(contestant, mix, run, outcome.toFile);
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
    const rows = mixes.flatMap((mix) =>
        charts
            .filter(({ of }) => of === "toFile")
            .flatMap(({ share, chart }): Row[] => {
                const x = `${mix.perSecond}`;
                const what = (how: string) => `time to file, p${share * 100}, ${x} messages a second, ${how}`;
                const fastest = (run: number) => leastOfField((one) => chart.values(one, x)[run] ?? Number.NaN);
                return [
                    {
                        what: what("files of all loads, this project / the field's fastest"),
                        unit: "×",
                        values: files.ratios(mix, share),
                        atMost: 1,
                    },
                    {
                        what: what("in each load, this project / whoever of the field was the fastest in it"),
                        unit: "×",
                        values: chart.values("component", x).map((value, run) => value / fastest(run)),
                        atMost: 1,
                    },
                ];
            }),
    );
    return { rows, figures: [...charts.map(({ chart }) => chart.figure()), rss.figure()] };
}

/**
 * The times of all files under one mix, load by load. A single load has too few for a percentile that says something of the mix: how
 * many of them stand behind a large one in their room is chance, and moves the field's p50 by half.
 */
class FilesOfLoads {
    /** With a hole for a load in which the contestant failed. */
    readonly #loads = new Map<string, (readonly number[])[]>();

    add(contestant: Contestant, mix: Mix, load: number, toFile: readonly number[]): void {
        const key = keyOf(contestant, mix);
        const loads = this.#loads.get(key) ?? [];
        loads[load] = toFile;
        this.#loads.set(key, loads);
    }

    /** This project's percentile by the least of the field's, each time with another load left out: the range is what one load weighs. */
    ratios(mix: Mix, share: number): number[] {
        const loads = this.#of("component", mix);
        return loads.map((_, leftOut) => {
            const over = (contestant: Contestant) =>
                percentile(
                    this.#of(contestant, mix)
                        .filter((_, load) => load !== leftOut || loads.length === 1)
                        .flat(),
                    share,
                );
            return over("component") / leastOfField(over);
        });
    }

    #of(contestant: Contestant, mix: Mix): readonly (readonly number[])[] {
        return this.#loads.get(keyOf(contestant, mix)) ?? [];
    }
}

/** Those of the field that have none, because they failed, do not count. */
function leastOfField(valueOf: (contestant: Contestant) => number): number {
    return Math.min(...FIELD.map(valueOf).filter(Number.isFinite));
}

function keyOf(contestant: Contestant, { perSecond }: Mix): string {
    return `${contestant} ${perSecond}`;
}

/** Ghosts are registered and have joined, connections are open and the code is compiled, for each size of file that comes. */
function warmUp({ rooms, kinds }: Mix, prefix: string, urlOf: (size: number) => string) {
    return [...rooms, ...rooms].map((room, i) => {
        const size = kinds[i]?.bytes ?? 1000;
        return { ...room, key: `${prefix} warm-up ${i}`, atMs: i * 20, file: { url: urlOf(size), size } };
    });
}
