import type { Context } from "../support/context.ts";
import { startComponent } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { GIBIBYTE, type Measurement, MEBIBYTE } from "./measurement.ts";

const SMALL = 100 * MEBIBYTE;
const SMALL_FILES = 41;

/** Files of encrypted rooms: what encryption costs beside node:crypto itself, and memory of the whole way. */
export const encryption: Measurement = {
    name: "encryption",
    about: "Encrypted attachments against bare node:crypto, and their memory",
    async measure(context) {
        return [...(await speed(context)), ...(await memory(context, "spool")), ...(await memory(context, "two-pass"))];
    },
};

async function speed(context: Context): Promise<Row[]> {
    const bytes = context.quick ? 256 * MEBIBYTE : GIBIBYTE;
    const process = context.start("encryption");
    for (const way of ["bare", "firstPass", "secondPass"] as const) await process.call(way, 64 * MEBIBYTE);
    const bares: number[] = [];
    const first: number[] = [];
    const second: number[] = [];
    for (let run = 0; run < context.runs; run++) {
        const bare = await process.call("bare", bytes);
        bares.push(bytes / MEBIBYTE / bare);
        first.push(bare / (await process.call("firstPass", bytes)));
        second.push(bare / (await process.call("secondPass", bytes)));
    }
    await process.kill();
    return [
        {
            what: "throughput, encrypting / node:crypto AES-256-CTR and SHA-256",
            unit: "×",
            values: first,
            atLeast: 0.9,
        },
        { what: "throughput, encrypting again and checking / the same", unit: "×", values: second, atLeast: 0.9 },
        { what: "throughput, node:crypto AES-256-CTR and SHA-256", unit: "MB/s", values: bares },
    ];
}

/** As many bytes either way; each value is a process of its own, for a peak never comes down again. */
async function memory(context: Context, strategy: "spool" | "two-pass"): Promise<Row[]> {
    const homeserverUrl = await context.start("homeserver").call("url");
    const remoteUrl = await context.start("remote").call("url");
    const peak = async (size: number, count: number) => {
        const component = await startComponent(context, { homeserverUrl }, { encryption: strategy });
        await component.call("sendEncrypted", { url: `${remoteUrl}/file?size=${size}&etag=1`, count });
        const { peakRssMb } = await component.call("usage");
        await component.kill();
        context.log(`${strategy}, ${count} × ${size} bytes: ${peakRssMb.toFixed(0)} MB`);
        return peakRssMb;
    };
    const small: number[] = [];
    const large: number[] = [];
    for (let run = 0; run < context.runs; run++) {
        small.push(await peak(SMALL, context.quick ? 3 : SMALL_FILES));
        large.push(await peak(context.quick ? 3 * SMALL : 4 * GIBIBYTE, 1));
    }
    return [
        { what: `peak RSS, 41 encrypted files of 100 MB, ${strategy}`, unit: "MB", values: small },
        { what: `peak RSS, one encrypted file of 4 GiB, ${strategy}`, unit: "MB", values: large },
        {
            what: `peak RSS, one file of 4 GiB / 41 files of 100 MB, ${strategy}`,
            unit: "×",
            values: large.map((value, run) => value / (small[run] ?? Number.NaN)),
            atMost: 1.1,
        },
    ];
}
