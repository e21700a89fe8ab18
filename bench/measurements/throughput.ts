import type { Usage } from "../processes/serve.ts";
import { startComponent } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { GIBIBYTE, type Measurement, MEBIBYTE } from "./measurement.ts";

export interface Transferring {
    call(name: "transfer", argument: { url: string; count: number }): Promise<number>;
    call(name: "usage"): Promise<Usage>;
}

export async function timed(process: Transferring, url: string): Promise<{ seconds: number; cpuSeconds: number }> {
    const before = await process.call("usage");
    const seconds = await process.call("transfer", { url, count: 1 });
    const after = await process.call("usage");
    return { seconds, cpuSeconds: after.cpuSeconds - before.cpuSeconds };
}

/** One file at a time, by turns through the component and through the bare pipe, each process warmed up first. */
export const throughput: Measurement = {
    name: "throughput",
    about: "Transfer of 1 GiB against a bare node:http pipe",
    async measure(context) {
        const size = context.quick ? 256 * MEBIBYTE : GIBIBYTE;
        const homeserver = context.start("homeserver");
        const remote = context.start("remote");
        const pipe = context.start("pipe", { inBridge: true });
        const homeserverUrl = await homeserver.call("url");
        const component = await startComponent(context, { homeserverUrl }, { inBridge: true });
        await pipe.call("start", homeserverUrl);
        const remoteUrl = await remote.call("url");
        const rows: Row[] = [];
        for (const [kind, query] of [
            ["resumable source (ETag)", "&etag=1"],
            ["source without a validator", ""],
        ] as const) {
            for (const process of [pipe, component]) {
                await process.call("transfer", { url: `${remoteUrl}/file?size=${64 * MEBIBYTE}${query}`, count: 2 });
            }
            const speeds: number[] = [];
            const ratios: number[] = [];
            const cpu: number[] = [];
            const url = `${remoteUrl}/file?size=${size}${query}`;
            for (let run = 0; run < context.runs; run++) {
                const bare = await timed(pipe, url);
                const ours = await timed(component, url);
                speeds.push(size / MEBIBYTE / ours.seconds);
                ratios.push(bare.seconds / ours.seconds);
                cpu.push(ours.cpuSeconds / bare.cpuSeconds);
                context.log(
                    `${kind}: pipe ${bare.seconds.toFixed(2)} s (CPU ${bare.cpuSeconds.toFixed(2)}), ` +
                        `component ${ours.seconds.toFixed(2)} s (CPU ${ours.cpuSeconds.toFixed(2)})`,
                );
            }
            rows.push(
                { what: `throughput, ${kind} / pipe`, unit: "×", values: ratios, atLeast: 0.9 },
                { what: `CPU time, ${kind} / pipe`, unit: "×", values: cpu, atMost: 1.3 },
                { what: `throughput, ${kind}`, unit: "MB/s", values: speeds },
            );
        }
        return rows;
    },
};
