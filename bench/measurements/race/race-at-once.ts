import { GIBIBYTE, type Measurement, MEBIBYTE } from "../measurement.ts";
import { Chart } from "./chart.ts";
import { Runner, warmUpTrack } from "./runner.ts";
import { bareTrack, inTurn, room, tenRooms } from "./track.ts";

const SIZE = 100 * MEBIBYTE;
const COUNTS = [1, 4, 8] as const;

/** Files at once, each in a room of its own so that nobody has to wait for another; a process of its own for each number. */
export const raceAtOnce: Measurement = {
    name: "race-at-once",
    about: "The race: files of 100 MB at once",
    atMostRuns: 3,
    async measure(context) {
        const track = await bareTrack(context);
        await warmUpTrack(context, track, { ...track, rooms: tenRooms() });
        const over = "files of 100 MB at once";
        const rss = new Chart({ name: "at-once-rss", title: "Peak memory", over, unit: "MB" });
        const speed = new Chart({
            name: "at-once-speed",
            title: "Throughput of all together",
            over,
            unit: "MB/s",
            logarithmic: false,
        });
        const cpu = new Chart({ name: "at-once-cpu", title: "CPU time", over, unit: "s/GiB", logarithmic: false });
        for (let run = 0; run < context.runs; run++) {
            for (const count of context.quick ? ([1, 8] as const) : COUNTS) {
                for (const contestant of inTurn(run)) {
                    const messages = (bytes: number, prefix: string) =>
                        Array.from({ length: count }, (_, i) => {
                            const file = { url: track.urlOf(bytes), size: bytes };
                            return { ...room(i), key: `${prefix} ${i}`, atMs: 0, file };
                        });
                    const on = { contestant, track, concurrency: count };
                    const isThere = await Runner.during(context, on, async (runner) => {
                        for (let i = 0; i < 3; i++) await runner.run(messages(100_000, `warm-up ${i}`));
                        const outcome = await runner.run(messages(SIZE, "file"));
                        rss.add(contestant, `${count}`, outcome.peakRssMb);
                        speed.add(contestant, `${count}`, outcome.bytes / MEBIBYTE / outcome.seconds);
                        cpu.add(contestant, `${count}`, outcome.cpuSeconds / (outcome.bytes / GIBIBYTE));
                        context.log(`${count} files, ${contestant}: ${outcome.peakRssMb.toFixed(0)} MB`);
                    });
                    if (isThere) continue;
                    for (const chart of [rss, speed, cpu]) chart.failed(contestant, `${count}`, run);
                }
            }
        }
        return {
            rows: [
                {
                    what: "peak RSS, eight files, this project / matrix-bot-sdk",
                    unit: "×",
                    values: rss.ratios("component", "bot-sdk", "8"),
                    atMost: 0.25,
                },
            ],
            figures: [rss, speed, cpu].map((chart) => chart.figure()),
        };
    },
};
