import { startComponent } from "../support/context.ts";
import type { Measurement } from "./measurement.ts";

const CONCURRENCY = 8;

/** What a transfer leaves behind in memory shows only after very many of them. */
export const memoryOverTime: Measurement = {
    name: "memory-over-time",
    about: "Peak memory after many small files",
    async measure(context) {
        const few = context.quick ? 300 : 1000;
        const homeserverUrl = await context.start("homeserver").call("url");
        const url = `${await context.start("remote").call("url")}/file?size=10000&etag=1`;
        const early: number[] = [];
        const late: number[] = [];
        const last: number[] = [];
        for (let run = 0; run < context.runs; run++) {
            const component = await startComponent(context, { homeserverUrl }, { concurrency: CONCURRENCY });
            const transfers = { url, concurrency: CONCURRENCY };
            for (const [count, peaks] of [
                [few, early],
                [9 * few, late],
                [20 * few, last],
            ] as const) {
                await component.call("transferMany", { ...transfers, count });
                peaks.push((await component.call("usage")).peakRssMb);
            }
            await component.kill();
            const seen = [early, late, last].map((peaks) => `${(peaks[run] ?? Number.NaN).toFixed(0)} MB`);
            context.log(seen.join(", then "));
        }
        const growth = (from: readonly number[], to: readonly number[]) =>
            to.map((value, run) => value / (from[run] ?? Number.NaN));
        return [
            { what: "peak RSS, 1,000 files", unit: "MB", values: early },
            { what: "peak RSS, 10,000 files", unit: "MB", values: late, atMost: 200 },
            { what: "peak RSS, 30,000 files", unit: "MB", values: last },
            // The heap may take its time to find its size, but not grow with the count.
            { what: "peak RSS, 10,000 / 1,000 files", unit: "×", values: growth(early, late), atMost: 1.2 },
            { what: "peak RSS, 30,000 / 10,000 files", unit: "×", values: growth(late, last), atMost: 1.2 },
        ];
    },
};
