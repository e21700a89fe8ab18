import type { RaceMessage } from "../../processes/race/message.ts";
import { percentile } from "../../support/statistics.ts";
import { GIBIBYTE, type Measurement, MEBIBYTE } from "../measurement.ts";
import { Chart } from "./chart.ts";
import { Runner, warmUpTrack } from "./runner.ts";
import { bareTrack, inTurn, room, tenRooms } from "./track.ts";

const TEXTS = 20;
const PAUSE_MS = 200;
/** 1 Gbit/s. */
const RATE = 125_000_000;
/** 100 Mbit/s, and a file that takes longer than the texts. */
const SLOWER = { rate: 12_500_000, size: 64 * MEBIBYTE };
const IDLE = "idle, p50";
const BEHIND = "behind 1 GiB, p50";
const BEHIND_P99 = "behind 1 GiB, p99";

/** Texts in a room in which a large file came just before them, and while its transfer runs; then the same texts without it. */
export const raceBehind: Measurement = {
    name: "race-behind",
    about: "The race: texts behind a file of 1 GiB in the same room, from a source of 1 Gbit/s",
    atMostRuns: 3,
    async measure(context) {
        const track = await bareTrack(context);
        await warmUpTrack(context, track, { ...track, rooms: tenRooms() });
        const size = context.quick ? 256 * MEBIBYTE : GIBIBYTE;
        const chart = new Chart({
            name: "behind",
            title: "Time until a text is in its room",
            over: "texts",
            unit: "ms",
            shape: "bars",
        });
        const slower: number[] = [];
        for (let run = 0; run < context.runs; run++) {
            for (const contestant of inTurn(run)) {
                const isThere = await Runner.during(context, { contestant, track }, async (runner) => {
                    await runner.run(texts("warm-up", { count: 100, pauseMs: 5 }));
                    const idle = await runner.run(texts("idle", { count: TEXTS, pauseMs: PAUSE_MS }));
                    const file = { url: track.urlOf(size, RATE), size };
                    const behind = await runner.run([
                        { ...room(0), key: "file", atMs: 0, file },
                        ...texts("behind", { count: TEXTS, pauseMs: PAUSE_MS }),
                    ]);
                    const times = behind.toRoom.slice(1);
                    chart.add(contestant, IDLE, percentile(idle.toRoom, 0.5));
                    chart.add(contestant, BEHIND, percentile(times, 0.5));
                    chart.add(contestant, BEHIND_P99, percentile(times, 0.99));
                    if (contestant === "component") {
                        const file = { url: track.urlOf(SLOWER.size, SLOWER.rate), size: SLOWER.size };
                        const { toRoom } = await runner.run([
                            { ...room(0), key: "slower file", atMs: 0, file },
                            ...texts("behind the slower", { count: TEXTS, pauseMs: PAUSE_MS }),
                        ]);
                        slower.push(percentile(toRoom.slice(1), 0.5) / percentile(idle.toRoom, 0.5));
                    }
                    context.log(
                        `${contestant}: idle ${percentile(idle.toRoom, 0.5).toFixed(1)} ms, ` +
                            `behind ${percentile(times, 0.5).toFixed(1)} ms, file ${behind.seconds.toFixed(1)} s`,
                    );
                });
                if (isThere) continue;
                for (const x of [IDLE, BEHIND, BEHIND_P99]) chart.failed(contestant, x, run);
            }
        }
        const delay = (contestant: "component" | "bare-pipe") =>
            chart
                .values(contestant, BEHIND)
                .map((value, run) => value / (chart.values(contestant, IDLE)[run] ?? Number.NaN));
        return {
            rows: [
                {
                    what: "text behind a file of 1 GiB / idle, p50, this project",
                    unit: "×",
                    values: delay("component"),
                    atMost: 1.1,
                },
                { what: "the same, bare pipe", unit: "×", values: delay("bare-pipe") },
                { what: "the same, this project, from a source of 100 Mbit/s", unit: "×", values: slower, atMost: 1.1 },
            ],
            figures: [chart.figure()],
        };
    },
};

function texts(prefix: string, { count, pauseMs }: { count: number; pauseMs: number }): RaceMessage[] {
    return Array.from({ length: count }, (_, i) => ({ ...room(0), key: `${prefix} ${i}`, atMs: i * pauseMs }));
}
