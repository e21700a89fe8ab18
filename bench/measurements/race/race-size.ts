import type { RaceMessage } from "../../processes/race/message.ts";
import type { Context } from "../../support/context.ts";
import type { Unit } from "../../support/result.ts";
import { median } from "../../support/statistics.ts";
import { GIBIBYTE, type Measurement, MEBIBYTE } from "../measurement.ts";
import { Chart } from "./chart.ts";
import type { Contestant } from "./contestants.ts";
import { type Outcome, Runner, warmUpTrack } from "./runner.ts";
import { bareTrack, inTurn, room, tenRooms } from "./track.ts";

interface Size {
    readonly name: string;
    readonly bytes: number;
    /** Files, one after the other. */
    readonly count: number;
}

const SIZES: readonly Size[] = [
    { name: "1 kB", bytes: 1000, count: 20 },
    { name: "100 kB", bytes: 100_000, count: 20 },
    { name: "1 MB", bytes: MEBIBYTE, count: 20 },
    { name: "10 MB", bytes: 10 * MEBIBYTE, count: 10 },
    { name: "100 MB", bytes: 100 * MEBIBYTE, count: 5 },
    { name: "1 GiB", bytes: GIBIBYTE, count: 1 },
    { name: "4 GiB", bytes: 4 * GIBIBYTE, count: 1 },
];
const STREAMING: readonly Contestant[] = ["component", "bare-pipe"];
/** Files of 100 kB with which each is warmed up. */
const WARM_UP = 20;

type Charts = ReturnType<typeof charts>;

/** One message at a time, nothing else going on; a process of its own for each size, because a peak never comes down. */
export const raceSize: Measurement = {
    name: "race-size",
    about: "The race: one message with a file at a time, as files grow",
    atMostRuns: 3,
    async measure(context) {
        const track = await bareTrack(context);
        await warmUpTrack(context, track, { ...track, rooms: tenRooms() });
        const into = charts();
        const sizes = context.quick ? SIZES.slice(0, 5) : SIZES;
        for (let run = 0; run < context.runs; run++) {
            for (const size of sizes) {
                for (const contestant of inTurn(run)) {
                    if (await raced(context, track, { contestant, size, into })) continue;
                    for (const chart of Object.values(into)) chart.failed(contestant, size.name, run);
                }
            }
        }
        const { toRoom } = into;
        return {
            rows: [
                {
                    what: "time to room, matrix-bot-sdk / this project, 100 MB",
                    unit: "×",
                    values: toRoom.ratios("bot-sdk", "component", "100 MB"),
                    atLeast: 50,
                },
                {
                    what: "time to room, growth with a tenfold file, of its mean",
                    unit: "%",
                    values: Array.from({ length: context.runs }, (_, run) => growth(toRoom, sizes, run)),
                    atMost: 5,
                },
            ],
            figures: Object.values(into).map((chart) => chart.figure()),
        };
    },
};

function charts() {
    const over = "size of the file";
    const chart = (name: string, title: string, unit: Unit) => new Chart({ name: `size-${name}`, title, over, unit });
    return {
        toRoom: chart("to-room", "Time until the message is in its room", "ms"),
        toFile: chart("to-file", "Time until the file is downloadable", "ms"),
        rss: chart("rss", "Peak memory", "MB"),
        speed: chart("speed", "Throughput of one file", "MB/s"),
        cpu: chart("cpu", "CPU time", "s/GiB"),
    };
}

async function raced(
    context: Context,
    track: Awaited<ReturnType<typeof bareTrack>>,
    { contestant, size, into }: { contestant: Contestant; size: Size; into: Charts },
): Promise<boolean> {
    if (size.bytes > GIBIBYTE && !STREAMING.includes(contestant)) {
        for (const chart of Object.values(into)) chart.without(contestant, size.name, "not tried");
        return true;
    }
    const message = (key: string, bytes: number): RaceMessage => {
        return { ...room(0), key, atMs: 0, file: { url: track.urlOf(bytes), size: bytes } };
    };
    const outcomes: Outcome[] = [];
    const isThere = await Runner.during(context, { contestant, track }, async (runner) => {
        for (let i = 0; i < WARM_UP; i++) await runner.run([message(`warm-up ${i}`, 100_000)]);
        for (let i = 0; i < size.count; i++) outcomes.push(await runner.run([message(`file ${i}`, size.bytes)]));
    });
    if (!isThere) return false;
    const cpuSeconds = outcomes.reduce((sum, one) => sum + one.cpuSeconds, 0);
    into.toRoom.add(contestant, size.name, median(outcomes.flatMap(({ toRoom }) => toRoom)));
    into.toFile.add(contestant, size.name, median(outcomes.flatMap(({ toFile }) => toFile)));
    into.rss.add(contestant, size.name, Math.max(...outcomes.map(({ peakRssMb }) => peakRssMb)));
    // Of smaller files the CPU time is the message's.
    if (size.bytes < MEBIBYTE) return true;
    into.speed.add(contestant, size.name, size.bytes / MEBIBYTE / median(outcomes.map(({ seconds }) => seconds)));
    into.cpu.add(contestant, size.name, cpuSeconds / ((size.count * size.bytes) / GIBIBYTE));
    context.log(`${size.name}, ${contestant}: ${median(outcomes.map(({ seconds }) => seconds)).toFixed(3)} s`);
    return true;
}

/** The slope of the line that fits a run's times best, over the sizes' logarithms, in percent of their mean. */
function growth(toRoom: Chart, sizes: readonly Size[], run: number): number {
    const points = sizes.map(({ name, bytes }) => ({
        x: Math.log10(bytes),
        y: toRoom.values("component", name)[run] ?? Number.NaN,
    }));
    const mean = (of: (point: { x: number; y: number }) => number) =>
        points.reduce((sum, point) => sum + of(point), 0) / points.length;
    const [x, y] = [mean((point) => point.x), mean((point) => point.y)];
    const slope = mean((point) => (point.x - x) * (point.y - y)) / mean((point) => (point.x - x) ** 2);
    return (slope / y) * 100;
}
