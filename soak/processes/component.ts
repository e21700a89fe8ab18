import { readdirSync } from "node:fs";
import { Readable } from "node:stream";
import { Registry } from "prom-client";
import { serve } from "../../bench/processes/serve.ts";
import { type BridgeLike, BridgeMedia, type MediaItem, type RemoteMessage } from "../../src/index.ts";
import { bytesOf, isLarge, type Planned, plannedMessage, type Setting } from "../plan.ts";

/**
 * The component under load, in a process that has nothing else to do. It says the planned messages at a constant rate, a
 * room's in their order, and tells which ones were accepted; what was not is said again after a kill.
 */
export interface Start {
    readonly setting: Setting;
    readonly dataDir: string;
    /** Said before and never heard of: to be said again, first. */
    readonly again: readonly number[];
    readonly from: number;
    readonly perSecond: number;
}

export interface Sample {
    readonly rssMb: number;
    /** What lives: measured after a full collection. */
    readonly heapMb: number;
    readonly externalMb: number;
    /** What keeps the event loop busy, as Node.js counts it. */
    readonly handles: number;
    readonly descriptors: number;
    readonly pendingMessages: number;
    readonly pendingJobs: number;
    readonly reservations: number;
    readonly spoolMb: number;
}

/** With more calls open than this nothing new is said: the homeserver is down. */
const MAX_OPEN = 400;
const TICK_MS = 50;
const MINUTE = 60_000;

const registry = new Registry();
let media: BridgeMedia;
let setting: Setting;
let next = 0;
let ticking: NodeJS.Timeout | undefined;
const open = new Set<number>();
let accepted: number[] = [];
const refused: string[] = [];

function bridgeOf({ homeserverUrl, accessToken, bot, encryptedRoom }: Setting): BridgeLike {
    const crypto = {
        isRoomEncrypted: async (roomId: string) => roomId === encryptedRoom,
        encryptRoomEvent: async (_roomId: string, type: string, content: object) => ({
            algorithm: "m.megolm.v1.aes-sha2",
            ciphertext: Buffer.from(JSON.stringify({ type, content })).toString("base64"),
        }),
    };
    return {
        getIntent: (userId = bot) => ({
            userId,
            matrixClient: { homeserverUrl, accessToken, crypto },
            ensureRegistered: async () => {},
            join: async () => {},
        }),
    };
}

function itemOf({ kind, file }: Planned): MediaItem[] {
    const at = ["url"];
    const size = isLarge(file) && { size: bytesOf(file).length };
    switch (kind) {
        case "text":
            return [];
        case "buffer":
            return [{ at, source: { kind, data: bytesOf(file) } }];
        case "stream":
            return [{ at, source: { kind, stream: Readable.from([bytesOf(file)]) } }];
        case "fetched":
        case "gone":
            return [{ at, source: { kind: "http", url: `${setting.remoteUrl}/${file}` }, ...size }];
        case "sticker":
            return [{ at, source: { kind: "http", url: `${setting.remoteUrl}/${file}` }, ...size, dedupeKey: file }];
    }
}

function messageOf(planned: Planned): RemoteMessage {
    const { index, roomId, sender, kind } = planned;
    const content = { msgtype: kind === "text" ? "m.text" : "m.file", body: `${index}` };
    // Said outright: where crypto might still decide for it, no file is shared.
    const encrypted = roomId === setting.encryptedRoom;
    return { id: `soak/${index}`, roomId, sender, content, encrypted, media: itemOf(planned) };
}

function say(index: number): void {
    open.add(index);
    media
        .send(messageOf(plannedMessage(setting, index)))
        .then(({ uploads }) => {
            // Some callers look when a file is there, others do not.
            if (index % 2 === 0) for (const { done } of uploads) done.catch(() => {});
            return accepted.push(index);
        })
        .catch((error: unknown) => refused.push(`${index}: ${String(error)}`))
        .finally(() => open.delete(index));
}

async function level(name: string): Promise<number> {
    const metric = await registry.getSingleMetric(`bridge_media_${name}`)?.get();
    return metric?.values[0]?.value ?? 0;
}

function descriptors(): number {
    try {
        return readdirSync("/proc/self/fd").length;
    } catch {
        return 0;
    }
}

const handlers = {
    start: async ({ setting: given, dataDir, again, from, perSecond }: Start) => {
        setting = given;
        next = from;
        media = new BridgeMedia(bridgeOf(setting), {
            dataDir,
            allowPrivateAddresses: true,
            concurrency: 8,
            maxAttempts: 30,
            // The shortest there are, so that what is remembered comes to rest within a short run.
            keepResultsMs: MINUTE,
            dedupeKeepMs: MINUTE,
            dedupeCheckMs: 5000,
            timeLimits: { headersMs: 2000, idleMs: 2000 },
        });
        media.registerMetrics(registry);
        await media.start();
        for (const index of again) say(index);
        const began = performance.now();
        let said = 0;
        ticking = setInterval(() => {
            const due = ((performance.now() - began) / 1000) * perSecond;
            for (; said < due; said++) if (open.size < MAX_OPEN) say(next++);
        }, TICK_MS);
    },
    stop: async () => clearInterval(ticking),
    /** What was accepted since the last call, and how far it is. */
    progress: async () => {
        const since = accepted;
        accepted = [];
        return { accepted: since, next, refused };
    },
    pending: async () => open.size + (await level("pending_messages")) + (await level("pending_jobs")),
    sample: async (): Promise<Sample> => {
        globalThis.gc?.();
        const { rss, heapUsed, external } = process.memoryUsage();
        return {
            rssMb: rss / 2 ** 20,
            heapMb: heapUsed / 2 ** 20,
            externalMb: external / 2 ** 20,
            handles: process.getActiveResourcesInfo().length,
            descriptors: descriptors(),
            pendingMessages: await level("pending_messages"),
            pendingJobs: await level("pending_jobs"),
            reservations: await level("reservations"),
            spoolMb: (await level("spool_bytes")) / 2 ** 20,
        };
    },
    close: async () => media.close(),
};
export type ComponentHandlers = typeof handlers;
serve(handlers);
