import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import {
    BridgeMedia,
    type BridgeLike,
    type JobInfo,
    type MediaItem,
    type MediaSource,
    type RemoteMessage,
    type SentMessage,
} from "../../../src/index.ts";
import { standInCrypto, withCrypto } from "../crypto.ts";
import { messages } from "../download.ts";
import { photoMessage, textMessage } from "../messages.ts";
import { sha256, someBytes } from "../remote.ts";
import { until } from "../until.ts";
import { intentOf, plainBridge } from "../world.ts";
import { armed } from "./before.ts";
import {
    expectEncryptedRoom,
    expectIds,
    expectPatience,
    expectRoom,
    expectThumbnail,
    hasLast,
    isTold,
} from "./cell-expectations.ts";
import { type Cell, type CellScene, gateOf, openCellScene, OTHER_BYTES, type Surroundings } from "./cell-scene.ts";
import { gatedConnector, LINKS } from "./connector.ts";
import type { Injection } from "./gate.ts";
import type { Step } from "./steps.ts";
import { endsAddresses } from "./table.ts";
import { ask, askAgain, expectPicture, expectSettled, isPicture } from "./later.ts";

/** What a cell has shown. */
export interface Report {
    /** Requests that the fault has met. */
    readonly hits: number;
    /** Milliseconds until the last file had ended. */
    readonly tookMs: number;
    /** Until the other room had all its events. */
    readonly othersMs: number;
}

/** Short, and yet long enough for a machine that has other things to do. */
const TIME_LIMITS = { connectMs: 4000, headersMs: 5000, idleMs: 5000, totalMs: 20_000 };
/** A look before the event is short however long a transfer may take. */
const PROBE_LIMITS = { ...TIME_LIMITS, headersMs: 30_000, idleMs: 30_000, probeMs: 1000 };
/** A request waits at its gate for the other cells of its process, and none is to be given up meanwhile. */
const PATIENT_LIMITS = { connectMs: 60_000, headersMs: 60_000, idleMs: 60_000, totalMs: 120_000, probeMs: 30_000 };
/** What a room with such a look may have its messages later than another: less than a transfer has. */
const PROBED_MS = 15_000;
/** A request for an event has 60 s, which no option shortens; the rest is back-off, and leave for a loaded machine. */
const SILENT_MS = 60_000;
const SLACK_MS = 90_000;
const OTHERS_MS = 45_000;

export async function runCell({ fault, step, outcome }: Cell, surroundings: Surroundings): Promise<Report> {
    const scene = await openCellScene(fault, step, surroundings);
    const log: string[] = [];
    try {
        const injection = armed(scene, fault, step);
        return await withLogOf(log, () => told(scene, injection, { fault, step, outcome }, log));
    } finally {
        await scene.homeserverGate.close();
        await scene.sourceGate.close();
        await scene.world.close();
        await scene.remote.close();
        await scene.storage?.close();
    }
}

async function told(scene: CellScene, injection: Injection, cell: Cell, log: string[]): Promise<Report> {
    const { world, remote, alice, roomId, bob, otherRoomId, sharingRoomId, photo } = scene;
    const { homeserver } = world;
    const { later } = cell.step;
    const other = someBytes(OTHER_BYTES);
    const known = {
        sha256: sha256(photo),
        ...(cell.step.large === true && { size: photo.length }),
        ...(cell.step.shared !== undefined && { dedupeKey: "the photo" }),
        ...(cell.step.probed === true && { probeHeaders: true }),
    };
    const source = sourceOf(scene, cell.step);
    // Where it is not said, the room is asked.
    const encrypted = cell.step.encrypted === undefined ? {} : { encrypted: true };
    const photoHere = photoMessage(roomId, alice, source, { id: "photo", ...encrypted }, known);
    const saidHere: RemoteMessage[] = [
        textMessage(roomId, alice, "before", { id: "before", ...encrypted }),
        cell.step.thumbnail === true ? withThumbnail(photoHere, remote.file(scene.thumbnail)) : photoHere,
        textMessage(roomId, alice, "after", { id: "after", ...encrypted }),
    ];
    const sharing = photoMessage(sharingRoomId, alice, source, { id: "the same photo" }, known);
    const saidBefore = cell.step.shared === "before" ? [sharing] : [];
    if (cell.step.shared === "meanwhile") saidHere.push(sharing);
    const saidThere: RemoteMessage[] = [
        textMessage(otherRoomId, bob, "before", { id: "other before" }),
        photoMessage(otherRoomId, bob, { kind: "http", url: remote.file(other) }, { id: "other photo" }),
        textMessage(otherRoomId, bob, "after", { id: "other after" }),
    ];
    const media = component(scene, scene.homeserverGate.url, cell, log);
    const began = performance.now();
    const limitMs = (cell.fault.silent === true ? SILENT_MS : 0) + (cell.fault.toldMs ?? 0) + SLACK_MS;
    const inTime = { limitMs, what: "the end within the limits" };
    let othersMs = 0;
    let hereMs = 0;
    const sent: SentMessage[] = [];
    let jobs: readonly JobInfo[] = [];
    try {
        await media.start();
        for (const message of saidBefore) await (await media.send(message)).uploads[0]?.done;
        const here = Promise.all(saidHere.map((message) => media.send(message)));
        const there = Promise.all(saidThere.map((message) => media.send(message)));
        here.then(() => (hereMs = performance.now() - began)).catch(() => {});
        there.catch(() => {});
        await until(() => messages(homeserver, otherRoomId).length >= 3, {
            limitMs: OTHERS_MS,
            what: "the other room",
        });
        othersMs = performance.now() - began;
        sent.push(...(await bounded(here, inTime)));
        scene.areSent = true;
        const asked =
            later === undefined ? undefined : ask(later, media, scene).then((editId) => (scene.editId = editId));
        asked?.catch(() => {});
        // Behind the edit in the same breath, or else when what is to be told is on its way: then what follows stands behind it.
        if (later !== "edit") await bounded(Promise.all([asked, until(() => isTold(scene, cell), inTime)]), inTime);
        if (hasLast(cell.step)) {
            const last = textMessage(roomId, alice, "last", { id: "last", ...encrypted });
            saidHere.push(last);
            sent.push(await bounded(media.send(last), inTime));
        }
        await bounded(Promise.resolve(asked), inTime);
        const ends = [...sent, ...(await bounded(there, inTime))].flatMap(({ uploads }) =>
            uploads.map(({ done }) => done.catch(() => undefined)),
        );
        await bounded(Promise.all(ends), inTime);
        jobs = await allJobs(media);
    } finally {
        // What hangs is let go, so that the closing need not wait for it.
        if (sent.length === 0) scene.homeserverGate.cut();
        await media.close();
    }
    const tookMs = performance.now() - began;
    if (cell.step.large === true) expect(log.join("\n"), "the thread").not.to.include("No thread could be started");
    expect(injection.hits, "requests that met the fault").to.be.greaterThan(0);
    if (cell.fault.onConnection === true)
        expect(gateOf(scene, cell.step)?.connectionHits, "connections that met the fault").to.be.greaterThan(0);
    // Nobody waits for the other room's file before the clock jumps.
    const isReplaced = jobs.some((job) => job.roomId === otherRoomId && job.state === "replaced");
    const othersOutcome = isReplaced && endsAddresses(cell.fault) ? "file, by an edit" : "file";
    await expectRoom(scene, otherRoomId, other, othersOutcome, jobs);
    if (cell.step.probed === true && cell.fault.clockMs === undefined)
        expect(hereMs - othersMs, "the room after the other one").to.be.lessThan(PROBED_MS);
    const mayLackJob = cell.step.shared === "before";
    const shownAs = cell.outcome === "redacted" ? undefined : "cat.jpg";
    const bodies = ["before", shownAs, "after", ...(hasLast(cell.step) ? ["last"] : [])];
    if (cell.step.shared !== undefined)
        await expectRoom(scene, sharingRoomId, photo, cell.outcome, jobs, { bodies: ["cat.jpg"] });
    if (cell.step.encrypted === undefined)
        await expectRoom(scene, roomId, photo, cell.outcome, jobs, { bodies, mayLackJob });
    else await expectEncryptedRoom(scene, cell, jobs);
    if (cell.step.thumbnail === true) await expectThumbnail(scene);
    if (isPicture(later)) await expectPicture(later, scene);
    expectIds(scene, sent);
    expectPatience(injection, cell.fault);
    expect(await readdir(join(world.dataDir, "spool")), "spool").to.deep.equal([]);
    await cell.fault.lift?.();
    await expectRepeatable(scene, [...saidBefore, ...saidHere, ...saidThere], cell);
    return { hits: injection.hits, tookMs, othersMs };
}

function component(scene: CellScene, homeserverUrl: string, { step, fault }: Cell, log: string[]): BridgeMedia {
    const { bot, homeserver } = scene.world;
    const [gated, direct] = [plainBridge(homeserverUrl, bot), plainBridge(homeserver.url, bot)];
    // A connection that is not made has no sender yet: the other room's requests go past the gate.
    const passes = (userId?: string): boolean => fault.onConnection === true && userId === scene.bob;
    const plain: BridgeLike = {
        getIntent: (userId) => intentOf(passes(userId) ? direct : gated, userId ?? bot),
    };
    const crypto = standInCrypto();
    const hasCrypto = step.crypto === true || step.encrypted !== undefined;
    const bridge: BridgeLike = hasCrypto ? withCrypto(plain, () => crypto) : plain;
    const note = (text: string, details?: object): void => void log.push(`${text} ${JSON.stringify(details)}`);
    return new BridgeMedia(bridge, {
        dataDir: scene.world.dataDir,
        allowPrivateAddresses: true,
        timeLimits: fault.clockMs !== undefined ? PATIENT_LIMITS : step.probed === true ? PROBE_LIMITS : TIME_LIMITS,
        connectors: { network: gatedConnector(scene.sourceGate.url) },
        // One after the other, so that it is seen which comes first.
        ...(step.thumbnail === true && { concurrency: 1, smallFileConcurrency: 0 }),
        ...(step.encrypted !== undefined && { encryption: step.encrypted }),
        ...(step.shared === "before" && { dedupeCheckMs: 0 }),
        // Else the address that comes in place of another is there already.
        ...(step.after === "ending address" && { reserveAhead: 0 }),
        logger: { debug: note, info: note, warn: note, error: note },
    });
}

function sourceOf({ photo, photoUrl }: CellScene, { handedOver, connector }: Step): MediaSource {
    if (handedOver === true) return { kind: "buffer", data: photo };
    if (connector === undefined) return { kind: "http", url: photoUrl };
    return { kind: "connector", connector: "network", ref: { link: LINKS[connector] } };
}

/** The photo is said first and its thumbnail second. */
function withThumbnail({ content, media = [], ...message }: RemoteMessage, url: string): RemoteMessage {
    const info = { ...(content["info"] as object), thumbnail_info: { mimetype: "image/jpeg" } };
    const thumbnail: MediaItem = { at: ["info", "thumbnail_url"], source: { kind: "http", url } };
    return { ...message, content: { ...content, info }, media: [...media, thumbnail] };
}

/** Also the journal has it once: said again after a restart, nothing new comes. */
async function expectRepeatable(scene: CellScene, said: readonly RemoteMessage[], cell: Cell): Promise<void> {
    const { homeserver } = scene.world;
    const rooms = new Set(said.map(({ roomId }) => roomId));
    const count = (): number => [...rooms].reduce((sum, room) => sum + homeserver.events(room).length, 0);
    const before = count();
    const again = component(scene, homeserver.url, cell, []);
    await again.start();
    await Promise.all(said.map((message) => again.send(message)));
    if (cell.step.later !== undefined) await askAgain(cell.step.later, again, scene);
    const states = new Set((await allJobs(again)).map(({ state }) => state));
    const after = count();
    if (isPicture(cell.step.later)) await expectSettled(cell.step.later, again, scene);
    await again.close();
    expect(after, "events after a restart").to.equal(before);
    for (const state of states) expect(["done", "failed", "replaced", "cancelled"]).to.include(state);
}

async function allJobs(media: BridgeMedia): Promise<JobInfo[]> {
    const jobs: JobInfo[] = [];
    for await (const job of media.jobs()) jobs.push(job);
    return jobs;
}

async function bounded<T>(promise: Promise<T>, { limitMs, what }: { limitMs: number; what: string }): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(new Error(`Never came: ${what}`)), limitMs);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** What the component logged belongs to what is said of a cell that failed. */
async function withLogOf<T>(log: readonly string[], action: () => Promise<T>): Promise<T> {
    try {
        return await action();
    } catch (error) {
        if (error instanceof Error) error.message += `\n${log.slice(-25).join("\n")}`;
        throw error;
    }
}
