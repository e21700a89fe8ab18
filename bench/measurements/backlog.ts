import { cp } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { type Measurement } from "./measurement.ts";

const ROOMS = 200;
const PHOTO_BYTES = 48_000;
/** The drain is watched for a while, for the memory of a start must not grow with it. */
const DRAIN_MS = 5000;

interface Shape {
    readonly name: string;
    /** Whether the homeserver had taken the messages, so that only their files are pending. */
    readonly accepted: boolean;
}

const SHAPES: readonly Shape[] = [
    { name: "files pending", accepted: true },
    { name: "messages and files pending", accepted: false },
];

/**
 * A start on a large backlog. It is journaled by the component itself, one photo a message over 200 rooms: once with
 * a file server that never answers (events sent, files pending), once with a homeserver that is down (both pending).
 * Then the process is killed, and each run starts on a copy of what it left.
 */
export const backlog: Measurement = {
    name: "backlog",
    about: "Start with 100,000 pending jobs on disk",
    async measure(context) {
        const rows: Row[] = [];
        const remote = context.start("remote");
        const url = `${await remote.call("url")}/gated?size=${PHOTO_BYTES}&etag=1`;
        for (const shape of SHAPES) {
            await remote.call("gate", false);
            const prepared = await prepare(context, shape, url);
            await remote.call("gate", true);
            const times = {
                first: [] as number[],
                start: [] as number[],
                peak: [] as number[],
                drained: [] as number[],
            };
            for (let run = 0; run < context.runs; run++) {
                const dataDir = await context.folder();
                await cp(prepared, dataDir, { recursive: true });
                const seen = await restart(context, dataDir);
                times.first.push(seen.first);
                times.start.push(seen.start);
                times.peak.push(seen.peakRssMb);
                times.drained.push(seen.drained);
                context.log(
                    `${shape.name}: start() ${seen.start.toFixed(2)} s, first byte ${seen.first.toFixed(2)} s, ` +
                        `peak ${seen.peakRssMb.toFixed(0)} MB, ${seen.drained} files in ${DRAIN_MS} ms`,
                );
            }
            rows.push(
                {
                    what: `first byte at the homeserver after start(), ${shape.name}`,
                    unit: "s",
                    values: times.first,
                    atMost: 2,
                },
                {
                    what: `peak RSS, ${shape.name}`,
                    unit: "MB",
                    values: times.peak,
                    // With messages pending too, 32 of them are on their way at any time: that is no backlog's memory.
                    ...(shape.accepted && { atMost: 200 }),
                },
                { what: `start() itself, ${shape.name}`, unit: "s", values: times.start },
            );
        }
        return rows;
    },
};

/** Returns a data directory as a crash leaves it. */
async function prepare(context: Context, { name, accepted }: Shape, url: string): Promise<string> {
    const dataDir = await context.folder();
    const homeserver = context.start("homeserver");
    await homeserver.call("failing", !accepted);
    const component = context.start("component");
    const began = performance.now();
    await component.call("start", {
        homeserverUrl: await homeserver.call("url"),
        options: {
            dataDir,
            maxPendingJobs: 1_000_000,
            timeLimits: { headersMs: 24 * 3600_000, idleMs: 24 * 3600_000 },
        },
    });
    await component.call("fill", {
        count: context.quick ? 5000 : 100_000,
        rooms: ROOMS,
        url,
        accepted,
    });
    const { jobs, messages } = await component.call("pending");
    await component.kill();
    await homeserver.kill();
    context.log(`${name}: ${jobs} jobs, ${messages} messages in ${((performance.now() - began) / 1000).toFixed(0)} s`);
    return dataDir;
}

async function restart(context: Context, dataDir: string) {
    const homeserver = context.start("homeserver");
    const component = context.start("component");
    const { began, startMs } = await component.call("start", {
        homeserverUrl: await homeserver.call("url"),
        options: { dataDir, maxPendingJobs: 1_000_000 },
    });
    const firstByte = async (): Promise<number> => {
        for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(20)) {
            const { firstUploadByteAt } = await homeserver.call("counts");
            if (firstUploadByteAt !== undefined) return firstUploadByteAt;
        }
        throw new Error("no transfer began within a minute");
    };
    const first = ((await firstByte()) - began) / 1000;
    await sleep(DRAIN_MS);
    const { uploadedBytes } = await homeserver.call("counts");
    const { peakRssMb } = await component.call("usage");
    await component.kill();
    await homeserver.kill();
    return { first, start: startMs / 1000, peakRssMb, drained: Math.round(uploadedBytes / PHOTO_BYTES) };
}
