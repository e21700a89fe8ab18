import { mkdirSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { BridgeMedia } from "../../bridge/bridge-media.ts";
import type { BridgeLike, IntentLike } from "../../matrix/client.ts";
import { loadConnector, loadStore } from "./candidates.ts";
import { type Deed, isDeed, planned } from "./deeds.ts";
import { perform } from "./doing.ts";
import { networkConnector } from "./linked.ts";
import { BOT, bytesOf, isEncryptedRoom, type Network, type PlannedMessage, remoteMessage } from "./messages.ts";
import { PULSE_MS } from "./standstill.ts";

/**
 * The bridge that is killed: a process of its own, told on its input what it is and then, line by line, what to say and
 * do; it tells in a line each what has happened. A line is handed to the system before the next step is taken, so what was
 * told is known whenever the process ends. Told to leave, it closes the component, whatever is under way, and ends; when
 * its input is closed, whoever has started it is gone, and it ends at once.
 */
export interface Life {
    readonly url: string;
    readonly dataDir: string;
    /** Where the network leaves files. */
    readonly networkDir: string;
    readonly seed: number;
    readonly encryption: "spool" | "two-pass";
    readonly store?: string | undefined;
    readonly connector?: string | undefined;
}

interface Sending {
    readonly ended: Promise<unknown>;
    isSettled: boolean;
}

const LOOK_MS = 5;

const tell = (...words: readonly (string | number)[]): void => void writeSync(1, `${words.join(" ")}\n`);

const lines = createInterface({ input: process.stdin });
lines.once("close", () => process.exit(1));
const input = lines[Symbol.asyncIterator]();
const loaded = { wallMs: performance.now(), cpu: process.cpuUsage() };
const life = (await told()) as Life;

const store = life.store === undefined ? undefined : await loadStore(life.store);
const certified = life.connector === undefined ? undefined : await loadConnector(life.connector);
const media = new BridgeMedia(bridge(), {
    dataDir: life.dataDir,
    allowPrivateAddresses: true,
    encryption: life.encryption,
    ...(store !== undefined && { store }),
    connectors: {
        network: networkConnector(life.url),
        ...(certified !== undefined && { certified: certified.connector }),
    },
});
const refs = certified?.files.map(({ ref }) => ref) ?? [];
const network: Network = { url: life.url, refs, stream: (bytes) => Readable.from([bytes]), path: onDisk };
/** The calls of `send()`, by the numbers of their messages. */
const sendings = new Map<number, Sending>();
let isLeaving = false;
tell("starting", Date.now(), loaded.wallMs / ((loaded.cpu.user + loaded.cpu.system) / 1000));
pulse();
await media.start();
tell("started");
for (let numbers = await told(); numbers !== null; numbers = await told()) void work(numbers as number[]);
isLeaving = true;
tell("closing");
await media.close();
process.exit(0);

/** Behind whatever had come when this round of the loop began. */
function pulse(): void {
    const { user, system } = process.cpuUsage();
    tell("pulse", Date.now(), (user + system) / 1000);
    setTimeout(() => setImmediate(pulse), PULSE_MS);
}

/** The next line: its life, then numbers of messages, and `null` when it may leave. */
async function told(): Promise<unknown> {
    return JSON.parse(String((await input.next()).value)) as unknown;
}

/** In this order, none of them waiting for another. */
async function work(numbers: readonly number[]): Promise<void> {
    try {
        await Promise.all(
            numbers.map((number) => {
                const told = planned(life.seed, number, certified?.files.length);
                return isDeed(told) ? act(told) : say(told);
            }),
        );
        await quiet();
        tell("idle");
    } catch (error) {
        // The component is closed, and says so.
        if (!isLeaving) throw error;
    }
}

async function say(message: PlannedMessage): Promise<void> {
    tell("said", message.id);
    const sent = media.send(remoteMessage(message, network));
    const ended = sent.then(({ uploads }) => Promise.allSettled(uploads.map(({ done }) => done)));
    ended.catch(() => {});
    const sending: Sending = { ended, isSettled: false };
    sendings.set(message.number, sending);
    try {
        await sent;
        sending.isSettled = true;
        tell("sent", message.id);
        await ended;
        tell("ended", message.id);
    } catch (error) {
        sending.isSettled = true;
        refused(message.id, error);
    }
}

async function act(deed: Deed): Promise<void> {
    const sending = deed.does === "picture" ? undefined : sendings.get(deed.of.number);
    if (sending !== undefined && deed.when === "sent") while (!sending.isSettled) await sleep(LOOK_MS);
    if (deed.when === "ended") await sending?.ended.catch(() => {});
    tell("calling", deed.id, deed.when, deed.does);
    try {
        const end = await perform(media, deed, network, () => sending?.isSettled !== false);
        tell("called", deed.id, end, deed.does);
    } catch (error) {
        refused(deed.id, error);
    }
}

/** What closing has cut off has no end yet. */
function refused(id: string, error: unknown): void {
    const { code = String(error) } = error as { code?: string };
    if (!(isLeaving && code === "CLOSED")) tell("refused", id, code);
}

/** A file that the network has left on this machine before it tells of it. */
function onDisk(name: string): string {
    mkdirSync(life.networkDir, { recursive: true });
    const path = join(life.networkDir, name);
    writeFileSync(path, bytesOf(name));
    return path;
}

/** Until no job has anything left to do, those of former lives included. */
async function quiet(): Promise<void> {
    const final = new Set<string>(["done", "failed", "cancelled", "replaced"]);
    for (;;) {
        let open = 0;
        for await (const { state } of media.jobs()) if (!final.has(state)) open++;
        if (open === 0) return;
        await new Promise((resolve) => setTimeout(resolve, 25));
    }
}

/** The least that the component asks of a bridge; its crypto stands in for Megolm, which would need devices. */
function bridge(): BridgeLike {
    const crypto = {
        isRoomEncrypted: async (roomId: string) => isEncryptedRoom(roomId),
        encryptRoomEvent: async (room_id: string, type: string, content: unknown) => ({
            algorithm: "m.megolm.v1.aes-sha2",
            ciphertext: Buffer.from(JSON.stringify({ type, content, room_id })).toString("base64"),
        }),
    };
    const matrixClient = { homeserverUrl: life.url, accessToken: "certify", crypto };
    return {
        getIntent: (userId = BOT): IntentLike => ({ userId, matrixClient, ensureRegistered: async () => {} }),
    };
}
