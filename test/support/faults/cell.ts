import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import type { Homeserver, StoredEvent } from "../../../src/dev/homeserver/index.ts";
import {
    BridgeMedia,
    type BridgeLike,
    type JobInfo,
    type MediaItem,
    type MediaSource,
    type RemoteMessage,
    type SentMessage,
} from "../../../src/index.ts";
import { decrypted, readable, standInCrypto, withCrypto } from "../crypto.ts";
import { edits, messages } from "../download.ts";
import { photoMessage, textMessage } from "../messages.ts";
import { type Remote, sha256, someBytes, startRemote } from "../remote.ts";
import { type S3, Storage } from "../storage.ts";
import { until } from "../until.ts";
import { intentOf, openWorld, plainBridge } from "../world.ts";
import { download } from "../download.ts";
import type { Fault } from "./faults.ts";
import { type Certificates, ZONE } from "./network.ts";
import { FaultGate, type Injection } from "./gate.ts";
import { ask, askAgain, EDIT, expectPicture, expectSettled, type LaterScene, redactions } from "./later.ts";
import { isComplete, isSend, isUpload, type Step } from "./steps.ts";

/**
 * One cell of the matrix: one component, a homeserver, a remote network and where needed a storage, each behind a gate. A
 * room gets a text, a photo and a text; the fault meets the photo's (or, where that has none, the room's) step. Another
 * room gets the same beside it. What is asserted comes from the homeserver's own record.
 */
export type Outcome = "file" | "file, by an edit" | "notice" | "edited" | "redacted" | "picture";

export interface Cell {
    readonly fault: Fault;
    readonly step: Step;
    readonly outcome: Outcome;
}

/** What a cell has shown. */
export interface Report {
    /** Requests that the fault has met. */
    readonly hits: number;
    /** Milliseconds until the last file had ended. */
    readonly tookMs: number;
    /** Until the other room had all its events. */
    readonly othersMs: number;
}

/** Larger than what sockets hold by themselves, so that a break midway is one. */
const PHOTO_BYTES = 600_000;
const LARGE_PHOTO_BYTES = 1_300_000;
const THUMBNAIL_BYTES = 500_000;
const OTHER_BYTES = 20_000;
/** Short, and yet long enough for a machine that has other things to do. */
const TIME_LIMITS = { connectMs: 4000, headersMs: 5000, idleMs: 5000, totalMs: 20_000 };
/** A look before the event is short however long a transfer may take. */
const PROBE_LIMITS = { ...TIME_LIMITS, headersMs: 30_000, idleMs: 30_000, probeMs: 1000 };
/** What a room with such a look may have its messages later than another: less than a transfer has. */
const PROBED_MS = 15_000;
/** A request for an event has 60 s, which no option shortens; the rest is back-off, and leave for a loaded machine. */
const SILENT_MS = 60_000;
const SLACK_MS = 90_000;
const OTHERS_MS = 45_000;

interface CellScene extends LaterScene {
    readonly storage: Storage | undefined;
    readonly homeserverGate: FaultGate;
    readonly sourceGate: FaultGate;
    readonly bob: string;
    readonly otherRoomId: string;
    /** That shows the same photo, where the step is one of shared files. */
    readonly sharingRoomId: string;
    readonly photo: Buffer;
    readonly photoUrl: string;
    readonly thumbnail: Buffer;
    areSent: boolean;
    /** Of the remote edit. */
    editId?: string | undefined;
}

/** What all cells have in common. */
export interface Surroundings {
    readonly s3: S3;
    readonly certificates: Certificates;
}

let cellCount = 0;

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

async function openCellScene(fault: Fault, step: Step, { s3, certificates }: Surroundings): Promise<CellScene> {
    const name = `cell-${++cellCount}`;
    /** A name of its own for the gate that the fault stands at. */
    const at = (gate: Step["gate"]) =>
        fault.onConnection === true && step.gate === gate
            ? { tls: certificates.good, host: `${name}-${gate}${ZONE}` }
            : {};
    const storage =
        step.presigned === true ? await Storage.open({ ...s3, close: async () => {} }, at("storage")) : undefined;
    const world = await openWorld({
        // Otherwise the homeserver's memory would hide what the component sends twice.
        ...(fault.repeats !== true && { txnMemoryMs: 0 }),
        ...(storage !== undefined && { presigned: storage.media() }),
        ...(step.oneStep === true && { features: { create: false } }),
    });
    const remote = await startRemote();
    const [alice, bob] = [world.ghost("alice"), world.ghost("bob")];
    const { sender = "joined" } = step;
    const roomId = await world.room(...(sender === "joined" ? [alice] : []));
    if (sender === "registered") await world.room(alice);
    const otherRoomId = await world.room(bob);
    const sharingRoomId = await world.room(...(step.shared === undefined ? [] : [alice]));
    const photo = someBytes(step.large === true ? LARGE_PHOTO_BYTES : PHOTO_BYTES);
    const homeserverGate = await FaultGate.open(world.homeserver.url, at("homeserver"));
    const sourceGate = await FaultGate.open(remote.url, at("source"));
    const photoUrl = `${sourceGate.url}/photo`;
    const rooms = { alice, roomId, bob, otherRoomId, sharingRoomId };
    const files = { photo, photoUrl, thumbnail: someBytes(THUMBNAIL_BYTES), picture: someBytes(OTHER_BYTES) };
    return { world, remote, storage, homeserverGate, sourceGate, ...rooms, ...files, areSent: false };
}

/** Sets up what has to go wrong before, and then the fault itself. */
function armed(scene: CellScene, fault: Fault, step: Step): Injection {
    const { world, remote, homeserverGate, sourceGate, photo } = scene;
    const stepScene = {
        alice: scene.alice,
        roomId: scene.roomId,
        areSent: () => scene.areSent,
        isPhotoSent: () => shownIn(scene, scene.roomId).length >= 2,
        photoPath: "/photo",
        thumbnailBytes: THUMBNAIL_BYTES,
        redactionPath: () => `/redact/${encodeURIComponent(shownIn(scene, scene.roomId)[1]?.event_id ?? "")}/`,
    };
    const loseAnswer = (matches: Step["matches"]): Injection =>
        homeserverGate.inject(
            (exchange) => matches(exchange, stepScene),
            async ({ deliver, socket }) => {
                await deliver();
                socket.resetAndDestroy();
            },
        );
    if (step.after === "lost event") {
        // The photo's, behind the first text.
        homeserverGate.inject(
            (exchange) => isSend(exchange, stepScene) && messages(world.homeserver, scene.roomId).length === 1,
            async ({ deliver, socket }) => {
                await deliver();
                socket.resetAndDestroy();
            },
        );
    }
    if (step.after === "lost upload") loseAnswer(isUpload);
    if (step.after === "lost completion") loseAnswer(isComplete);
    if (step.after === "lost address") {
        let lost: string | undefined;
        homeserverGate.inject(
            (exchange) => isUpload(exchange, stepScene) && exchange.passage.path === (lost ??= exchange.passage.path),
            async ({ request, response }) => {
                request.resume();
                // Not before the room has all messages, so that the edit is one of its own.
                await until(() => scene.areSent);
                response.writeHead(404, { "content-type": "application/json" });
                response.end('{"errcode":"M_NOT_FOUND","error":"Unknown media ID"}');
            },
            Number.POSITIVE_INFINITY,
        );
    }
    if (step.after === "broken body") {
        sourceGate.inject(
            ({ passage, request }) => passage.path === "/photo" && request.headers.range === undefined,
            async ({ response, deliver, socket }) => {
                const { headers, body } = await deliver();
                response.writeHead(200, headers);
                await new Promise((resolve) => response.write(body.subarray(0, 300_000), resolve));
                socket.destroySoon();
            },
        );
    }
    serve(remote, "/photo", photo, step, () => scene.areSent);
    const gate = gateOf(scene, step);
    if (gate === undefined) throw new Error("no storage");
    const isOfPhoto = ({ request }: { request: { headers: { "content-length"?: string | undefined } } }): boolean =>
        step.gate !== "storage" || request.headers["content-length"] === String(photo.length);
    return gate.inject(
        (exchange) => isOfPhoto(exchange) && step.matches(exchange, stepScene),
        fault.strike,
        fault.times,
    );
}

function gateOf({ homeserverGate, sourceGate, storage }: CellScene, step: Step): FaultGate | undefined {
    return { homeserver: homeserverGate, source: sourceGate, storage: storage?.gate }[step.gate];
}

function serve(remote: Remote, path: string, bytes: Buffer, step: Step, areSent: () => boolean): void {
    // The first of two passes finds it.
    let finds = step.encrypted === "two-pass" ? 1 : 0;
    remote.on(path, (request, response) => {
        if (step.after === "file gone" && finds-- <= 0) {
            // Not before the room has all messages, so that the notice is an edit of its own.
            void until(areSent).then(() => response.writeHead(404).end());
            return;
        }
        // Taken back before it is there.
        if (step.later === "redaction") return;
        const from = /^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1];
        const body = from === undefined ? bytes : bytes.subarray(Number(from));
        response.writeHead(from === undefined ? 200 : 206, {
            "content-type": "image/jpeg",
            etag: '"the-photo"',
            ...(step.withoutLength !== true && { "content-length": body.length }),
            ...(from !== undefined && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
        });
        response.end(body);
    });
}

async function told(scene: CellScene, injection: Injection, cell: Cell, log: string[]): Promise<Report> {
    const { world, remote, alice, roomId, bob, otherRoomId, sharingRoomId, photo, photoUrl } = scene;
    const { homeserver } = world;
    const { later } = cell.step;
    const other = someBytes(OTHER_BYTES);
    const known = {
        sha256: sha256(photo),
        ...(cell.step.large === true && { size: photo.length }),
        ...(cell.step.shared !== undefined && { dedupeKey: "the photo" }),
        ...(cell.step.probed === true && { probeHeaders: true }),
    };
    const source: MediaSource =
        cell.step.handedOver === true ? { kind: "buffer", data: photo } : { kind: "http", url: photoUrl };
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
    await expectRoom(scene, otherRoomId, other, "file", jobs);
    if (cell.step.probed === true) expect(hereMs - othersMs, "the room after the other one").to.be.lessThan(PROBED_MS);
    const mayLackJob = cell.step.shared === "before";
    const shownAs = cell.outcome === "redacted" ? undefined : "cat.jpg";
    const bodies = ["before", shownAs, "after", ...(hasLast(cell.step) ? ["last"] : [])];
    if (cell.step.shared !== undefined)
        await expectRoom(scene, sharingRoomId, photo, cell.outcome, jobs, { bodies: ["cat.jpg"] });
    if (cell.step.encrypted === undefined)
        await expectRoom(scene, roomId, photo, cell.outcome, jobs, { bodies, mayLackJob });
    else await expectEncryptedRoom(scene, cell, jobs);
    if (cell.step.thumbnail === true) await expectThumbnail(scene);
    if (later === "picture") await expectPicture(scene);
    expectIds(scene, sent);
    expectPatience(injection, cell.fault);
    expect(await readdir(join(world.dataDir, "spool")), "spool").to.deep.equal([]);
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
        timeLimits: step.probed === true ? PROBE_LIMITS : TIME_LIMITS,
        // One after the other, so that it is seen which comes first.
        ...(step.thumbnail === true && { concurrency: 1, smallFileConcurrency: 0 }),
        ...(step.encrypted !== undefined && { encryption: step.encrypted }),
        ...(step.shared === "before" && { dedupeCheckMs: 0 }),
        logger: { debug: note, info: note, warn: note, error: note },
    });
}

/** Whether the room gets a text when all is told, which is sent when nothing before it is in doubt any more. */
function hasLast({ later, after }: Step): boolean {
    return later !== undefined || after === "file gone" || after === "lost address";
}

/** The photo is said first and its thumbnail second. */
function withThumbnail({ content, media = [], ...message }: RemoteMessage, url: string): RemoteMessage {
    const info = { ...(content["info"] as object), thumbnail_info: { mimetype: "image/jpeg" } };
    const thumbnail: MediaItem = { at: ["info", "thumbnail_url"], source: { kind: "http", url } };
    return { ...message, content: { ...content, info }, media: [...media, thumbnail] };
}

/** A room's events that are no edits, in the clear or not. */
function shownIn({ world, editId }: CellScene, roomId: string): StoredEvent[] {
    return (
        world.homeserver
            .events(roomId)
            // Once it is redacted, nothing in it says that it was one.
            .filter(({ event_id }) => event_id !== editId)
            .filter(({ type }) => type === "m.room.message" || type === "m.room.encrypted")
            .filter(
                ({ content }) =>
                    (content["m.relates_to"] as { rel_type?: unknown } | undefined)?.rel_type !== "m.replace",
            )
    );
}

/** Whether the room has been told what has to be told after an event, or with one that waits for its file. */
function isTold({ world, roomId, sharingRoomId }: CellScene, { step, outcome }: Cell): boolean {
    if (outcome === "file" || outcome === "picture") return true;
    if (outcome === "redacted") return redactions({ world, roomId }).length > 0;
    const rooms = step.shared === "meanwhile" ? [roomId, sharingRoomId] : [roomId];
    if (step.encrypted === undefined) return rooms.every((room) => edits(world.homeserver, room).size > 0);
    const isNotice = readable(world.homeserver, roomId)[1]?.content["msgtype"] === "m.notice";
    return outcome === "notice" ? isNotice : sealed(world.homeserver, roomId).length > 3;
}

function sealed(homeserver: Homeserver, roomId: string): StoredEvent[] {
    return homeserver.events(roomId).filter(({ type }) => type === "m.room.encrypted");
}

/** The same as `expectRoom`, for one whose member has the keys. What cannot be read before its event is told with it. */
async function expectEncryptedRoom(scene: CellScene, { step, outcome }: Cell, jobs: readonly JobInfo[]): Promise<void> {
    const { world, roomId, photo } = scene;
    expect(messages(world.homeserver, roomId), "in the clear").to.deep.equal([]);
    const edited = outcome === "file" || step.encrypted === "spool" ? 0 : 1;
    const texts = hasLast(step) ? ["after", "last"] : ["after"];
    expect(sealed(world.homeserver, roomId), "events").to.have.length(2 + texts.length + edited);
    const [before, content, ...behind] = readable(world.homeserver, roomId).map((event) => event.content);
    expect([before, ...behind].map((text) => text?.["body"])).to.deep.equal(["before", ...texts]);
    const job = jobs.find(({ roomId: of }) => of === roomId);
    if (outcome === "notice") {
        expect(job?.state).to.equal("failed");
        expect(content).to.include({ msgtype: "m.notice" });
        return;
    }
    expect(job?.state).to.equal("done");
    expect(content).to.include({ body: "cat.jpg" }).and.not.to.have.property("url");
    const file = content?.["file"] as { readonly url: string };
    const { status, body } = await download(world.homeserver, file.url, 0);
    expect(status, "download").to.equal(200);
    expect(sha256(await decrypted(body, file)), "content").to.equal(sha256(photo));
}

interface RoomExpectation {
    /** In the room's order; without one, taken back. */
    readonly bodies?: readonly (string | undefined)[];
    /** Its file may have been there already. @default false */
    readonly mayLackJob?: boolean;
}

/** Once each, in order, and the file right or the room told. */
async function expectRoom(
    scene: CellScene,
    roomId: string,
    bytes: Buffer,
    outcome: Outcome,
    jobs: readonly JobInfo[],
    { bodies = ["before", "cat.jpg", "after"], mayLackJob = false }: RoomExpectation = {},
): Promise<void> {
    const { world } = scene;
    const shown = shownIn(scene, roomId);
    expect(
        shown.map(({ content }) => content["body"]),
        "the room",
    ).to.deep.equal(bodies);
    const photo = shown[bodies.length === 1 ? 0 : 1];
    const mxc = String(photo?.content["url"]);
    const edit = edits(world.homeserver, roomId).get(photo?.event_id ?? "");
    const edited = messages(world.homeserver, roomId).length - shown.length;
    const states = jobs.filter(({ roomId: of }) => of === roomId).map(({ state }) => state);
    if (outcome === "notice") {
        expect(states).to.deep.equal(["failed"]);
        expect(edited, "edits").to.equal(1);
        expect(edit).to.include({ msgtype: "m.notice" });
        return;
    }
    const taken = redactions({ world, roomId }).map(({ redacts }) => redacts);
    if (outcome === "redacted") {
        expect(states).to.deep.equal(["cancelled"]);
        expect(taken, "redactions").to.deep.equal([scene.editId, photo?.event_id]);
        return;
    }
    expect(taken, "redactions").to.deep.equal([]);
    const replaced = outcome === "file, by an edit" ? 1 : 0;
    expect(states.filter((state) => state === "replaced")).to.have.length(replaced);
    if (states.length === 0) expect(mayLackJob, "no job").to.equal(true);
    else expect(new Set(states.filter((state) => state !== "replaced"))).to.deep.equal(new Set(["done"]));
    const hasEdit = replaced === 1 || outcome === "edited";
    expect(edited, "edits").to.equal(hasEdit ? 1 : 0);
    if (replaced === 1) expect(edit?.["url"], "the address that was lost").not.to.equal(mxc);
    if (outcome === "edited") {
        expect(edit).to.deep.equal({ ...EDIT.content, url: mxc });
        const [last, beforeIt] = messages(world.homeserver, roomId).toReversed();
        expect(last?.content["body"]).to.equal("last");
        expect(beforeIt?.content, "the edit before the last").to.have.property("m.new_content");
    }
    const { status, body } = await download(world.homeserver, String((edit ?? photo?.content)?.["url"]), 0);
    expect(status, "download").to.equal(200);
    expect(sha256(body), "content").to.equal(sha256(bytes));
}

/** Right, and looked for by the room before the large file that it stands for. */
async function expectThumbnail(scene: CellScene): Promise<void> {
    const { world, roomId, photo, thumbnail, homeserverGate } = scene;
    const info = shownIn(scene, roomId)[1]?.content["info"] as { readonly thumbnail_url?: string } | undefined;
    const { status, body } = await download(world.homeserver, String(info?.thumbnail_url), 0);
    expect(status, "download of the thumbnail").to.equal(200);
    expect(sha256(body), "the thumbnail").to.equal(sha256(thumbnail));
    const lengths = homeserverGate.puts.map(({ rawHeaders }) => lengthIn(rawHeaders));
    const first = [thumbnail, photo].map(({ length }) => lengths.indexOf(length));
    expect(first, "the first of each one's uploads").to.deep.equal(first.toSorted((one, other) => one - other));
}

function lengthIn(rawHeaders: readonly string[]): number {
    return Number(rawHeaders[rawHeaders.findIndex((name) => name.toLowerCase() === "content-length") + 1]);
}

/** Each call got its own event's id. */
function expectIds(scene: CellScene, sent: readonly SentMessage[]): void {
    for (const room of new Set(sent.map(({ roomId }) => roomId)))
        expect(sent.filter(({ roomId }) => roomId === room).map(({ eventId }) => eventId)).to.deep.equal(
            shownIn(scene, room).map(({ event_id }) => event_id),
        );
}

/** A wait that was told is never undercut. */
function expectPatience({ seen: [first = 0, second] }: Injection, { toldMs }: Fault): void {
    if (toldMs === undefined || second === undefined) return;
    expect(second - first, "wait between tries").to.be.at.least(toldMs);
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
    if (cell.step.later === "picture") await expectSettled(again, scene);
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
