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
        const withRoom: number[] = [];
        const behind = async (runner: Runner, { size, rate }: { size: number; rate: number }) => {
            // A key is the component's message id: the next file's are others.
            const name = `a file at ${rate} bytes/s`;
            const { toRoom, seconds } = await runner.run([
                { ...room(0), key: name, atMs: 0, file: { url: track.urlOf(size, rate), size } },
                ...texts(`behind ${name}`, { count: TEXTS, pauseMs: PAUSE_MS }),
            ]);
            const times = toRoom.slice(1);
            return { p50: percentile(times, 0.5), p99: percentile(times, 0.99), seconds };
        };
        const heat = async (runner: Runner) => {
            await runner.run(texts("warm-up", { count: 100, pauseMs: 5 }));
            const idle = await runner.run(texts("idle", { count: TEXTS, pauseMs: PAUSE_MS }));
            const { p50, ...rest } = await behind(runner, { size, rate: RATE });
            return { p50: { idle: percentile(idle.toRoom, 0.5), behind: p50 }, ...rest };
        };
        for (let run = 0; run < context.runs; run++) {
            for (const contestant of inTurn(run)) {
                const isThere = await Runner.during(context, { contestant, track }, async (runner) => {
                    const { p50, p99, seconds } = await heat(runner);
                    chart.add(contestant, IDLE, p50.idle);
                    chart.add(contestant, BEHIND, p50.behind);
                    chart.add(contestant, BEHIND_P99, p99);
                    if (contestant === "component") {
                        slower.push((await behind(runner, SLOWER)).p50 / p50.idle);
                    }
                    context.log(
                        `${contestant}: idle ${p50.idle.toFixed(1)} ms, behind ${p50.behind.toFixed(1)} ms, ` +
                            `file ${seconds.toFixed(1)} s`,
                    );
                });
                if (isThere) continue;
                for (const x of [IDLE, BEHIND, BEHIND_P99]) chart.failed(contestant, x, run);
            }
            await Runner.during(context, { contestant: "component", track, withRoom: true }, async (runner) => {
                const { p50, p99 } = await heat(runner);
                withRoom.push(p50.behind / p50.idle);
                const [idle, behind, last] = [p50.idle, p50.behind, p99].map((ms) => ms.toFixed(1));
                context.log(`component, with room: idle ${idle} ms, behind ${behind} ms, p99 ${last} ms`);
            });
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
                {
                    what: "the same, this project, started with room for V8",
                    unit: "×",
                    values: withRoom,
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
