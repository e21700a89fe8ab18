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
        for (let run = 0; run < context.runs; run++) {
            const component = await startComponent(context, { homeserverUrl }, { concurrency: CONCURRENCY });
            const transfers = { url, concurrency: CONCURRENCY };
            await component.call("transferMany", { ...transfers, count: few });
            const first = await component.call("usage");
            await component.call("transferMany", { ...transfers, count: 9 * few });
            const last = await component.call("usage");
            await component.kill();
            early.push(first.peakRssMb);
            late.push(last.peakRssMb);
            context.log(`${first.peakRssMb.toFixed(0)} MB, then ${last.peakRssMb.toFixed(0)} MB`);
        }
        return [
            { what: "peak RSS, 1,000 files", unit: "MB", values: early },
            { what: "peak RSS, 10,000 files", unit: "MB", values: late, atMost: 200 },
            {
                what: "peak RSS, 10,000 / 1,000 files",
                unit: "×",
                values: late.map((value, run) => value / (early[run] ?? Number.NaN)),
                // The heap may take its time to find its size, but not grow with the count.
                atMost: 1.2,
            },
        ];
    },
};
