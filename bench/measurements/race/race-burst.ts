import { percentile } from "../../support/statistics.ts";
import type { Measurement } from "../measurement.ts";
import { Chart } from "./chart.ts";
import { Runner, warmUpTrack } from "./runner.ts";
import { bareTrack, inTurn, room, tenRooms } from "./track.ts";

const PHOTO_BYTES = 20_000;
const BURSTS = [
    { messages: 500, rooms: 1 },
    { messages: 500, rooms: 10 },
    { messages: 500, rooms: 100 },
    { messages: 2000, rooms: 100 },
    { messages: 4000, rooms: 100 },
] as const;

/** As after a network's outage: everything comes at the same moment, every second message with a photo. */
export const raceBurst: Measurement = {
    name: "race-burst",
    about: "The race: a burst of messages, every second one with a photo of 20 kB, as rooms and messages grow",
    atMostRuns: 3,
    async measure(context) {
        const track = await bareTrack(context);
        await warmUpTrack(context, track, { ...track, rooms: tenRooms() });
        const over = "messages in rooms";
        const rate = new Chart({
            name: "burst-rate",
            title: "Messages a second",
            over,
            unit: "/s",
            logarithmic: false,
        });
        const done = new Chart({
            name: "burst-done",
            title: "Messages a second, their files arrived",
            over,
            unit: "/s",
            logarithmic: false,
        });
        const room50 = new Chart({
            name: "burst-to-room",
            title: "Time until a message is in its room, p50",
            over,
            unit: "ms",
        });
        const file99 = new Chart({
            name: "burst-to-file",
            title: "Time until a file is downloadable, p99",
            over,
            unit: "ms",
        });
        const bursts = context.quick ? BURSTS.slice(0, 3) : BURSTS;
        for (let run = 0; run < context.runs; run++) {
            for (const contestant of inTurn(run)) {
                const burst = (messages: number, rooms: number) =>
                    Array.from({ length: messages }, (_, i) => {
                        const file = { url: track.urlOf(PHOTO_BYTES), size: PHOTO_BYTES };
                        const key = `${messages} in ${rooms}, ${i}`;
                        return { ...room(i % rooms), key, atMs: 0, ...(Math.floor(i / rooms) % 2 === 1 && { file }) };
                    });
                const isThere = await Runner.during(context, { contestant, track }, async (runner) => {
                    // Ghosts are registered and have joined, and the code is compiled, before anything counts.
                    await runner.run(burst(400, 100));
                    for (const { messages, rooms } of bursts) {
                        const x = nameOf({ messages, rooms });
                        const outcome = await runner.run(burst(messages, rooms));
                        rate.add(contestant, x, messages / outcome.eventSeconds);
                        done.add(contestant, x, messages / outcome.seconds);
                        room50.add(contestant, x, percentile(outcome.toRoom, 0.5));
                        file99.add(contestant, x, percentile(outcome.toFile, 0.99));
                        context.log(`${x}, ${contestant}: ${(messages / outcome.seconds).toFixed(0)} /s`);
                    }
                });
                if (isThere) continue;
                for (const chart of [rate, done, room50, file99]) {
                    for (const one of bursts) chart.failed(contestant, nameOf(one), run);
                }
            }
        }
        return { rows: [], figures: [rate, done, room50, file99].map((chart) => chart.figure()) };
    },
};

function nameOf({ messages, rooms }: { messages: number; rooms: number }): string {
    return `${messages.toLocaleString("en")} in ${rooms}`;
}
