import type { Usage } from "../processes/serve.ts";
import { startComponent, type Context } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { GIBIBYTE, MEBIBYTE } from "./measurement.ts";

interface Transferring {
    call(name: "transfer", argument: { url: string; count: number }): Promise<number>;
    call(name: "usage"): Promise<Usage>;
}

/** Files that both transfer before they are measured. */
export const WARM_UP_FILES = 2;

/**
 * One large file, by turns through the pipe and through the component, both in a bridge's process, warmed up, before the
 * same homeserver. Each run has two processes of its own: how V8 collects is a process's luck, and stays with it.
 * @param urlOf The address of a file of so many bytes.
 */
export async function againstPipe(
    context: Context,
    { homeserverUrl, kind, urlOf }: { homeserverUrl: string; kind: string; urlOf: (size: number) => string },
): Promise<Row[]> {
    const size = context.quick ? 256 * MEBIBYTE : GIBIBYTE;
    const warmUp = { url: urlOf(64 * MEBIBYTE), count: WARM_UP_FILES };
    const speeds: number[] = [];
    const ratios: number[] = [];
    const cpu: number[] = [];
    for (let run = 0; run < context.runs; run++) {
        const pipe = context.start("pipe", { inBridge: true });
        await pipe.call("start", homeserverUrl);
        const component = await startComponent(context, { homeserverUrl }, { inBridge: true });
        for (const process of [pipe, component]) await process.call("transfer", warmUp);
        const bare = await timed(pipe, urlOf(size));
        const ours = await timed(component, urlOf(size));
        for (const process of [pipe, component]) await process.kill();
        speeds.push(size / MEBIBYTE / ours.seconds);
        ratios.push(bare.seconds / ours.seconds);
        cpu.push(ours.cpuSeconds / bare.cpuSeconds);
        context.log(
            `${kind}: pipe ${bare.seconds.toFixed(2)} s (CPU ${bare.cpuSeconds.toFixed(2)}), ` +
                `component ${ours.seconds.toFixed(2)} s (CPU ${ours.cpuSeconds.toFixed(2)})`,
        );
    }
    return [
        { what: `throughput, ${kind} / pipe`, unit: "×", values: ratios, atLeast: 0.9 },
        { what: `CPU time, ${kind} / pipe`, unit: "×", values: cpu, atMost: 1.3 },
        { what: `throughput, ${kind}`, unit: "MB/s", values: speeds },
    ];
}

async function timed(process: Transferring, url: string): Promise<{ seconds: number; cpuSeconds: number }> {
    const before = await process.call("usage");
    const seconds = await process.call("transfer", { url, count: 1 });
    const after = await process.call("usage");
    return { seconds, cpuSeconds: after.cpuSeconds - before.cpuSeconds };
}
