import { setTimeout as sleep } from "node:timers/promises";
import type { BridgeLike, BridgeMedia, BridgeMediaOptions, JobInfo, MetricsLike, RemoteMessage } from "./built.ts";
import { loadBuilt } from "./built.ts";
import { joinHostBridge } from "./host-bridge.ts";
import { JournalClock } from "./journal-clock.ts";
import { Latencies, type SendRound } from "./latencies.ts";
import { repeat } from "./repeat.ts";
import { serve, usage } from "./serve.ts";

/** The component alone in its process, as a bridge would run it: from the built output, without a loader. */
export interface Start {
    readonly options: Pick<
        BridgeMediaOptions,
        "dataDir" | "concurrency" | "maxPendingJobs" | "timeLimits" | "allowPrivateAddresses" | "encryption"
    >;
    readonly homeserverUrl: string;
    readonly accessToken?: string;
    /** Whether the store's methods are timed. @default false */
    readonly withJournalClock?: boolean;
}

joinHostBridge();

const MAX_UNJOURNALED = 500;
const SENDER = "@ghost_alice:bench.example";
let component: BridgeMedia | undefined;
const levels = new Map<string, () => number>();
let firstTransferAt: number | undefined;
let clock: JournalClock | undefined;
/** Jobs heard of for the first time; a message's jobs are told of once they are journaled. */
let journaledJobs = 0;
let ids = 0;

function media(): BridgeMedia {
    if (component === undefined) throw new Error("not started");
    return component;
}

function bridge({ homeserverUrl, accessToken = "token", options }: Start): BridgeLike {
    return {
        getIntent: (userId = SENDER) => ({
            userId,
            matrixClient: { homeserverUrl, accessToken, ...(options.encryption !== undefined && { crypto }) },
            ensureRegistered: async () => {},
            join: async () => {},
        }),
    };
}

/** Megolm's cost is not what is measured. */
const crypto = {
    isRoomEncrypted: async () => false,
    encryptRoomEvent: async () => ({ algorithm: "m.megolm.v1.aes-sha2", ciphertext: "" }),
};

/** Reads the gauges where the component hands them out: a scrape, without a registry. */
const metrics: MetricsLike = {
    addCounter: () => ({ inc: () => {} }),
    addTimer: () => ({ observe: () => {} }),
    addGauge: ({ name, refresh }) => {
        let last = 0;
        levels.set(name, () => {
            refresh({ set: (value) => (last = value) });
            return last;
        });
    },
};

const level = (name: string): number => levels.get(`media_${name}`)?.() ?? 0;

async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await sleep(2);
}

function text(roomId: string, sender: string): RemoteMessage {
    return { id: `text/${process.pid}/${ids++}`, roomId, sender, content: { msgtype: "m.text", body: "hello" } };
}

function photo(roomId: string, sender: string, url: string): RemoteMessage {
    return {
        id: `photo/${process.pid}/${ids++}`,
        roomId,
        sender,
        content: { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg", size: 48_000 } },
        media: [{ at: ["url"], source: { kind: "http", url } }],
    };
}

function sticker(roomId: string, sender: string, url: string, dedupeKey: string): RemoteMessage {
    return {
        id: `sticker/${process.pid}/${ids++}`,
        roomId,
        sender,
        eventType: "m.sticker",
        content: { body: "a cat", info: { mimetype: "image/webp", size: 48_000, w: 256, h: 256 } },
        media: [{ at: ["url"], source: { kind: "http", url }, dedupeKey }],
    };
}

/** What a sticker's event says, without a file behind it. */
function bareSticker(roomId: string, sender: string): RemoteMessage {
    const { media: _, content, ...event } = sticker(roomId, sender, "", "");
    return { ...event, content: { ...content, url: "mxc://bench.example/cat" } };
}

interface Sends extends SendRound {
    readonly roomId: string;
    readonly sender: string;
    readonly photoUrl: string;
    /** Whether each photo's file has to be there before the next send. */
    readonly settle: boolean;
}

/** One text and one media send, in turns the one or the other first. */
async function sends({ count, pauseMs, roomId, sender, photoUrl, settle }: Sends) {
    const texts = new Latencies(pauseMs);
    const photos = new Latencies(pauseMs);
    let cold = 0;
    const sendPhoto = async () => {
        const patience = performance.now() + 1000;
        await until(() => level("reservations") >= 1 || performance.now() > patience);
        if (level("reservations") === 0) cold++;
        const sent = await photos.time(() => media().send(photo(roomId, sender, photoUrl)));
        if (settle) await sent.uploads[0]?.done;
    };
    const sendText = () => texts.time(() => media().send(text(roomId, sender)));
    const warmUp = await media().send(photo(roomId, sender, photoUrl));
    if (settle) await warmUp.uploads[0]?.done;
    for (let i = 0; i < count; i++) {
        for (const send of i % 2 === 0 ? [sendText, sendPhoto] : [sendPhoto, sendText]) await send();
    }
    return { text: texts.milliseconds, media: photos.milliseconds, cold };
}

async function transfer(url: string): Promise<JobInfo> {
    // As a message does, the bridge names the size; what the source says comes too late for the choice of a thread.
    const size = Number(new URL(url).searchParams.get("size"));
    const { done } = await media().upload({ kind: "http", url }, { userId: SENDER, mimetype: "image/jpeg", size });
    return done;
}

interface Fill {
    readonly count: number;
    readonly rooms: number;
    readonly url: string;
    /** False while the homeserver is down: then the messages are only journaled. */
    readonly accepted: boolean;
}

/** Messages with a file each, over many rooms, a bounded number of them under way at once. */
async function fill({ count, rooms, url, accepted }: Fill): Promise<void> {
    let next = 0;
    const lane = async () => {
        for (let i = next++; i < count; i = next++) {
            const sending = media().send(photo(`!room${i % rooms}:x`, `@ghost_${i % rooms}:bench.example`, url));
            if (accepted) await sending;
            else {
                sending.catch(() => {});
                await until(() => i - journaledJobs < MAX_UNJOURNALED);
            }
        }
    };
    await Promise.all(Array.from({ length: accepted ? 2 * rooms : 1 }, lane));
    if (!accepted) await until(() => journaledJobs >= count);
}

const FLOODS = { text, sticker, bareSticker };
export type FloodKind = keyof typeof FLOODS;

export interface Flood {
    readonly kind: FloodKind;
    readonly count: number;
    readonly roomIds: readonly string[];
    /** @default one that a bare homeserver knows as well as any */
    readonly sender?: string;
    readonly url: string;
    /** Which sticker. */
    readonly key: string;
    /** How many stickers, one after the other. @default 1 */
    readonly stickers?: number;
}

/** As many sends as come through, two under way in each room; resolves with how many there were a second. */
async function flood({ kind, count, roomIds, sender = SENDER, url, key, stickers = 1 }: Flood): Promise<number> {
    let next = 0;
    const began = performance.now();
    const lane = async () => {
        for (let i = next++; i < count; i = next++) {
            const which = `${key}/${Math.floor((i * stickers) / count)}`;
            const roomId = roomIds[i % roomIds.length] ?? "";
            await media().send(FLOODS[kind](roomId, sender, url, which));
        }
    };
    await Promise.all(Array.from({ length: 2 * roomIds.length }, lane));
    return count / ((performance.now() - began) / 1000);
}

const handlers = {
    flood,
    /** Resolves with the time just before `start()`, and how long it took. */
    start: async (given: Start) => {
        const built = await loadBuilt();
        if (given.withJournalClock === true) clock = new JournalClock(built.LevelStore);
        const began = Date.now();
        component = new built.BridgeMedia(bridge(given), { allowPrivateAddresses: true, ...given.options });
        component.registerMetrics(metrics);
        component.on("job", ({ state, transferredBytes }) => {
            if (state === "unreserved" || state === "reserved") journaledJobs++;
            if (transferredBytes > 0) firstTransferAt ??= Date.now();
        });
        await component.start();
        return { began, startMs: Date.now() - began };
    },
    transfer: async ({ url, count }: { url: string; count: number }) => {
        const began = performance.now();
        await Promise.all(Array.from({ length: count }, () => transfer(url)));
        return (performance.now() - began) / 1000;
    },
    /** Many files, `concurrency` of them at once. */
    transferMany: async ({ url, count, concurrency }: { url: string; count: number; concurrency: number }) => {
        let left = count;
        const lane = async () => {
            while (left-- > 0) await transfer(url);
        };
        await Promise.all(Array.from({ length: concurrency }, lane));
    },
    /** Messages of an encrypted room, each when the file before it has arrived. */
    sendEncrypted: async ({ url, count }: { url: string; count: number }) => {
        for (let i = 0; i < count; i++) {
            const sent = await media().send({ ...photo("!room:x", SENDER, url), encrypted: true });
            await sent.uploads[0]?.done;
        }
    },
    keepTransferring: async ({ url, count }: { url: string; count: number }) => {
        repeat(count, () => transfer(url));
        await until(() => level("active_transfers") >= count);
    },
    sends,
    fill,
    texts: async ({ count, pauseMs, roomId, sender }: SendRound & { roomId: string; sender: string }) => {
        const latencies = new Latencies(pauseMs);
        const journal = { commitMs: 0, readMs: 0 };
        const send = async () => {
            const before = clock?.read();
            await media().send(text(roomId, sender));
            const after = clock?.read();
            if (before === undefined || after === undefined) return;
            journal.commitMs += after.commitMs - before.commitMs;
            journal.readMs += after.readMs - before.readMs;
        };
        for (let i = 0; i < count; i++) await latencies.time(send);
        return { milliseconds: latencies.milliseconds, journal };
    },
    pending: async () => ({ jobs: level("pending_jobs"), messages: level("pending_messages"), firstTransferAt }),
    close: async () => media().close(),
    usage,
};
export type ComponentHandlers = typeof handlers;
serve(handlers);
