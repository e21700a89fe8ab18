import { startComponent } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { GIBIBYTE, type Measurement, MEBIBYTE } from "./measurement.ts";
import { timed } from "./throughput.ts";

/** As the throughput measurement, with a homeserver that wants its files at presigned addresses. */
export const presigned: Measurement = {
    name: "presigned",
    about: "Presigned transfer of 1 GiB against a bare node:http pipe",
    async measure(context) {
        const size = context.quick ? 256 * MEBIBYTE : GIBIBYTE;
        const homeserver = context.start("homeserver");
        const remote = context.start("remote");
        const pipe = context.start("pipe", { inBridge: true });
        const homeserverUrl = await homeserver.call("url");
        await homeserver.call("presigned", true);
        const component = await startComponent(context, { homeserverUrl }, { inBridge: true });
        await pipe.call("start", homeserverUrl);
        const url = `${await remote.call("url")}/file?etag=1&size=`;
        const warmUp = { url: `${url}${64 * MEBIBYTE}`, count: 2 };
        for (const process of [pipe, component]) await process.call("transfer", warmUp);
        const speeds: number[] = [];
        const ratios: number[] = [];
        const cpu: number[] = [];
        for (let run = 0; run < context.runs; run++) {
            const bare = await timed(pipe, `${url}${size}`);
            const ours = await timed(component, `${url}${size}`);
            speeds.push(size / MEBIBYTE / ours.seconds);
            ratios.push(bare.seconds / ours.seconds);
            cpu.push(ours.cpuSeconds / bare.cpuSeconds);
            context.log(`pipe ${bare.seconds.toFixed(2)} s, component ${ours.seconds.toFixed(2)} s`);
        }
        const { storedFiles, completed } = await homeserver.call("counts");
        const expected = context.runs + warmUp.count;
        if (storedFiles !== expected || completed !== expected) {
            throw new Error(
                `${storedFiles} files went to the storage and ${completed} were completed, not ${expected}`,
            );
        }
        const rows: Row[] = [
            { what: "throughput, presigned / pipe", unit: "×", values: ratios, atLeast: 0.9 },
            { what: "CPU time, presigned / pipe", unit: "×", values: cpu, atMost: 1.3 },
            { what: "throughput, presigned", unit: "MB/s", values: speeds },
        ];
        return rows;
    },
};
