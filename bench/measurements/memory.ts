import { startComponent, type Context } from "../support/context.ts";
import { GIBIBYTE, type Measurement, MEBIBYTE } from "./measurement.ts";

const SMALL = 100 * MEBIBYTE;
const SMALL_FILES = 41;

/** Peak memory of a fresh component after `count` transfers, `concurrency` of them at once. */
async function peakAfter(
    context: Context,
    homeserverUrl: string,
    { url, count, concurrency }: { url: string; count: number; concurrency: number },
): Promise<number> {
    const component = await startComponent(context, { homeserverUrl }, { concurrency: 8 });
    const began = performance.now();
    await component.call("transferMany", { url, count, concurrency });
    const seconds = (performance.now() - began) / 1000;
    const { peakRssMb } = await component.call("usage");
    context.log(
        `${count} × ${new URL(url).searchParams.get("size")} bytes: ${seconds.toFixed(1)} s, ${peakRssMb.toFixed(0)} MB`,
    );
    await component.kill();
    return peakRssMb;
}

/** Each value is a process of its own, for a peak never comes down again. */
export const memory: Measurement = {
    name: "memory",
    about: "Peak memory during transfers",
    async measure(context) {
        const unit = context.quick ? 64 * MEBIBYTE : GIBIBYTE;
        const homeserverUrl = await context.start("homeserver").call("url");
        const remoteUrl = await context.start("remote").call("url");
        const url = (size: number) => `${remoteUrl}/file?size=${size}&etag=1`;
        const eight: number[] = [];
        const single: number[] = [];
        const small: number[] = [];
        const large: number[] = [];
        const pipes: number[] = [];
        const peak = (size: number, count: number, concurrency: number) =>
            peakAfter(context, homeserverUrl, { url: url(size), count, concurrency });
        for (let run = 0; run < context.runs; run++) {
            const pipe = context.start("pipe");
            await pipe.call("start", homeserverUrl);
            await pipe.call("transfer", { url: url(unit), count: 8 });
            pipes.push((await pipe.call("usage")).peakRssMb);
            await pipe.kill();
            eight.push(await peak(unit, 8, 8));
            single.push(await peak(SMALL, 1, 1));
            small.push(await peak(SMALL, context.quick ? 3 : SMALL_FILES, 1));
            large.push(await peak(4 * unit, 1, 1));
        }
        return [
            { what: "peak RSS, eight transfers of 1 GiB at once", unit: "MB", values: eight, atMost: 200 },
            { what: "peak RSS, a bare pipe doing the same", unit: "MB", values: pipes },
            { what: "peak RSS, one file of 100 MB", unit: "MB", values: single },
            { what: "peak RSS, 41 files of 100 MB, one after the other", unit: "MB", values: small },
            { what: "peak RSS, one file of 4 GiB", unit: "MB", values: large },
            {
                what: "peak RSS, one file of 4 GiB / 41 files of 100 MB",
                unit: "×",
                values: large.map((value, run) => value / (small[run] ?? Number.NaN)),
                // As many bytes either way, for a heap finds its size in time. Two starts of the same program differ by as much.
                atMost: 1.1,
            },
        ];
    },
};
