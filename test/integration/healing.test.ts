import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { Registry } from "prom-client";
import type { BridgeMedia, JobInfo, MediaError, SentMessage } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { download, edits, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { Clock } from "../support/model.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { sweeperOf } from "../support/sweeper.ts";
import { until } from "../support/until.ts";

const isCreate = ({ path }: { path: string }): boolean => path.includes("/media/v1/create");
const isUpload = ({ method, path }: { method: string; path: string }): boolean =>
    method === "PUT" && path.includes("/upload/");
const gone = { status: 404, body: { errcode: "M_NOT_FOUND", error: "Media ID has expired" } };

describe("an address that ends before its file is there", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
    }
    /** The life of an address, which no test waits for. */
    const HOUR = 3_600_000;
    let clock: Clock;
    beforeEach(() => (clock = new Clock()));
    afterEach(async () => {
        clock.restore();
        await closeScene({ world, remote });
    });

    const shownUrl = (eventId: string, room = roomId): string => {
        const original = messages(world.homeserver, room).find(({ event_id }) => event_id === eventId);
        return String((edits(world.homeserver, room).get(eventId) ?? original?.content)?.["url"]);
    };
    const editsOf = (eventId: string, room = roomId): number =>
        messages(world.homeserver, room).filter(({ content }) => {
            const relation = content["m.relates_to"] as { rel_type?: string; event_id?: string } | undefined;
            return relation?.rel_type === "m.replace" && relation.event_id === eventId;
        }).length;
    const uploadOf = ({ uploads }: SentMessage) => {
        const [first] = uploads;
        if (first === undefined) throw new Error("no upload");
        return first;
    };
    const unused = (...users: readonly string[]): number =>
        users.reduce((sum, user) => sum + world.homeserver.pendingMedia(user), 0);
    /** Has every address end, of which there are some. */
    const expire = (...users: readonly string[]): void => {
        expect(unused(...users)).to.be.above(0);
        clock.advance(HOUR + 1000);
        expect(unused(...users)).to.equal(0);
    };

    it("is replaced without an edit while its event is not sent", async () => {
        await open({ unusedExpirationMs: HOUR });
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        let down = true;
        world.homeserver.intercept(({ path }) =>
            down && path.includes("/send/") ? { status: 503, body: {} } : undefined,
        );
        const bytes = someBytes(3000);
        const sending = Promise.allSettled([
            media.send(textMessage(roomId, alice, "first")),
            media.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes })),
        ]);
        await until(() => world.homeserver.requests.some(({ path }) => path.includes("/send/")));
        await until(async () => (await media.jobs()[Symbol.asyncIterator]().next()).done !== true);
        await media.close();
        await sending;
        // What an earlier run had reserved: the address of a message that still stands in line.
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        for await (const [key, record] of store.range({ collection: "job" })) {
            const stale = {
                ...record,
                state: "reserved",
                contentUri: "mxc://example.org/ended",
                expiresAt: Date.now(),
            };
            await store.commit([{ collection: "job", key, record: stale }]);
        }
        await store.close();
        down = false;
        const again = world.component({ reserveAhead: 0 });
        await again.start();
        const second = await until(() => messages(world.homeserver, roomId).at(1));
        const url = shownUrl(second.event_id);
        expect(url).not.to.equal("mxc://example.org/ended");
        expect((await download(world.homeserver, url)).body.equals(bytes)).to.equal(true);
        expect(messages(world.homeserver, roomId)).to.have.length(2);
    });

    it("is replaced at its turn, with one edit; whoever waits for the file hears of the new one", async () => {
        await open({ unusedExpirationMs: HOUR });
        const bytes = someBytes(4000);
        const first = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
        await first.start();
        const sent = await first.send(
            photoMessage(roomId, alice, { kind: "http", url: remote.on("/photo", () => {}) }),
        );
        const { contentUri = "", jobId } = uploadOf(sent);
        await until(() => remote.requests.length === 1);
        await first.close();
        expire(alice);

        remote.on("/photo", (_request, response) => response.end(bytes));
        const second = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
        const registry = new Registry();
        second.registerMetrics(registry);
        await second.start();
        const again = await second.send({ ...photoMessage(roomId, alice, { kind: "file", path: "/" }), id: sent.id });
        const info = await uploadOf(again).done;
        expect(info.state).to.equal("done");
        expect(info.contentUri).not.to.equal(contentUri);
        await until(() => editsOf(sent.eventId) === 1);
        expect(shownUrl(sent.eventId)).to.equal(info.contentUri);
        expect((await download(world.homeserver, shownUrl(sent.eventId))).body.equals(bytes)).to.equal(true);
        const refused = world.homeserver.requests.filter((request) => isUpload(request) && request.status === 404);
        expect(refused, "uploads to the old address").to.have.length(0);
        const old = await jobOf(second, jobId);
        expect(old).to.include({ state: "replaced", replacedBy: info.id });
        const counted = await registry.metrics();
        expect(counted).to.match(/bridge_media_jobs_finished_total{outcome="replaced"} 1/);
        expect(counted).to.match(/bridge_media_pending_jobs 0/);
    });

    it("of a sticker is replaced by an edit that is a sticker", async () => {
        await open({ unusedExpirationMs: HOUR });
        const bytes = someBytes(4000);
        const first = world.component({ reserveAhead: 0 });
        await first.start();
        const url = remote.on("/sticker", () => {});
        const sent = await first.send({
            ...photoMessage(roomId, alice, { kind: "http", url }),
            eventType: "m.sticker",
            content: { body: "a cat", info: {} },
        });
        await until(() => remote.requests.length === 1);
        await first.close();
        expire(alice);
        remote.on("/sticker", (_request, response) => response.end(bytes));
        const second = world.component({ reserveAhead: 0 });
        await second.start();
        const stickers = () => world.homeserver.events(roomId).filter(({ type }) => type === "m.sticker");
        const [, edit] = await until(() => (stickers().length === 2 ? stickers() : undefined));
        expect(edit?.content["m.relates_to"]).to.deep.equal({ rel_type: "m.replace", event_id: sent.eventId });
        const shown = edit?.content["m.new_content"] as { url?: string };
        expect(shown.url).not.to.equal(uploadOf(sent).contentUri);
        expect(edit?.content["url"], "for whoever knows no edits of it").to.equal(shown.url);
        await until(async () => (await download(world.homeserver, shown.url ?? "", 0)).body.equals(bytes));
    });

    it("is replaced ahead of its end where the file still waits, and the event never points to nothing", async () => {
        await open({ unusedExpirationMs: 1500 });
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
        await media.start();
        const stalled = await media.send(
            photoMessage(roomId, alice, { kind: "http", url: remote.on("/stalled", () => {}) }),
        );
        await until(() => remote.requests.length === 1);
        const bytes = someBytes(2000);
        const sent = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes }));
        const { contentUri = "" } = uploadOf(sent);
        await until(() => editsOf(sent.eventId) === 1, { what: "the edit" });
        expect((await download(world.homeserver, contentUri, 0)).status, "the old address still lives").to.equal(504);
        await media.cancel(uploadOf(stalled).jobId);
        await uploadOf(sent).done;
        expect((await download(world.homeserver, shownUrl(sent.eventId))).body.equals(bytes)).to.equal(true);
    });

    it("is left to its turn where the user may have no more addresses now", async () => {
        await open({ unusedExpirationMs: 1500, rateLimited: true, maxPendingMedia: 2 });
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
        await media.start();
        const stalled = await media.send(
            photoMessage(roomId, alice, { kind: "http", url: remote.on("/stalled", () => {}) }),
        );
        await until(() => remote.requests.length === 1);
        const bytes = someBytes(2000);
        const sent = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes }));
        const creates = (): number => world.homeserver.requests.filter(isCreate).length;
        const before = creates();
        await until(() => world.homeserver.requests.some((request) => isCreate(request) && request.status === 429));
        expect(editsOf(sent.eventId)).to.equal(0);
        await until(() => unused(alice) === 0, { what: "every address has ended" });
        expect(creates() - before, "asked once").to.equal(1);
        await media.cancel(uploadOf(stalled).jobId);
        await uploadOf(sent).done;
        await until(() => editsOf(sent.eventId) === 1);
        expect((await download(world.homeserver, shownUrl(sent.eventId))).body.equals(bytes)).to.equal(true);
    });

    it("is replaced when the homeserver has lost it, and not for ever", async () => {
        await open();
        let refusals = 1;
        world.homeserver.intercept((request) => (isUpload(request) && refusals-- > 0 ? gone : undefined));
        const media = world.component();
        await media.start();
        const bytes = someBytes(2000);
        const sent = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes }));
        await uploadOf(sent).done;
        await until(() => editsOf(sent.eventId) === 1);
        expect((await download(world.homeserver, shownUrl(sent.eventId))).body.equals(bytes)).to.equal(true);

        refusals = Number.POSITIVE_INFINITY;
        const before = world.homeserver.requests.filter(isUpload).length;
        const lost = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes }));
        const error = await uploadOf(lost).done.catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "RESERVATION_GONE" });
        expect(world.homeserver.requests.filter(isUpload).length - before).to.equal(4);
        await until(() => edits(world.homeserver, roomId).get(lost.eventId)?.["msgtype"] === "m.notice");

        // By the id that the caller knows.
        refusals = 0;
        await media.retry(uploadOf(lost).jobId);
        await until(() => edits(world.homeserver, roomId).get(lost.eventId)?.["msgtype"] === "m.image");
        await until(() => world.homeserver.media(shownUrl(lost.eventId)));
        expect((await download(world.homeserver, shownUrl(lost.eventId))).body.equals(bytes)).to.equal(true);
    });

    it("is replaced when an upload meets one before it, and nobody knows of that any more", async () => {
        await open();
        let conflicts = 1;
        const taken = { status: 409, body: { errcode: "M_CANNOT_OVERWRITE_MEDIA", error: "taken" } };
        const letThrough = world.homeserver.intercept((request) => {
            if (isUpload(request) && conflicts-- > 0) return taken;
            return request.path.includes("/download/") ? gone : undefined;
        });
        const media = world.component();
        await media.start();
        const bytes = someBytes(2000);
        const sent = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes }));
        expect((await uploadOf(sent).done).state).to.equal("done");
        letThrough();
        await until(() => editsOf(sent.eventId) === 1);
        expect((await download(world.homeserver, shownUrl(sent.eventId))).body.equals(bytes)).to.equal(true);
    });

    it("fails a bare upload: its address is with the caller", async () => {
        await open();
        world.homeserver.intercept((request) => (isUpload(request) ? gone : undefined));
        const media = world.component();
        await media.start();
        const { done } = await media.upload({ kind: "buffer", data: someBytes(10) }, { userId: alice });
        expect(await done.catch((reason: MediaError) => reason)).to.include({ code: "RESERVATION_GONE" });
    });

    it("cancel() by the first job's id ends the one that has its place", async () => {
        await open();
        let refusals = 1;
        world.homeserver.intercept((request) => (isUpload(request) && refusals-- > 0 ? gone : undefined));
        let asked = 0;
        const url = remote.on("/slow", (_request, response) => {
            if (asked++ === 0) response.end(someBytes(100));
        });
        const media = world.component();
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        await until(() => asked === 2);
        await media.cancel(uploadOf(sent).jobId);
        const error = await uploadOf(sent).done.catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "CANCELLED" });
    });

    it("after a downtime the whole backlog heals, live first and in the order of its turns, without a storm", async function () {
        this.timeout(180_000);
        const LIMIT = 5;
        await open({ unusedExpirationMs: HOUR, rateLimited: true, maxPendingMedia: LIMIT });
        // Ten users at their limit of five.
        const users = Array.from({ length: 10 }, (_, index) => world.ghost(`u${index}`));
        const rooms: string[] = [];
        for (let index = 0; index < 5; index++) rooms.push(await world.room(...users));
        const files = Array.from({ length: 50 }, (_, index) => Buffer.from(`file ${index}\0`.repeat(50 + index)));
        let open_ = false;
        for (const [index, bytes] of files.entries()) {
            remote.on(`/file/${index}`, (_request, response) => {
                if (open_) response.end(bytes);
            });
        }
        const first = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
        await first.start();
        const sent: SentMessage[] = [];
        for (const [index, bytes] of files.entries()) {
            const message = photoMessage(
                rooms[index % 5] ?? "",
                users[index % 10] ?? "",
                { kind: "http", url: `${remote.url}/file/${index}` },
                // The first ones are history, and come last all the same.
                { id: `m${index}`, backfill: index < 10 },
                { size: bytes.length },
            );
            sent.push(await first.send(message));
        }
        await first.close();
        expire(...users);

        open_ = true;
        let most = 0;
        let creating = 0;
        world.homeserver.intercept((request) => {
            if (!isCreate(request)) return undefined;
            creating++;
            return undefined;
        });
        const done: number[] = [];
        const began: number[] = [];
        const second = world.component({ concurrency: 4, smallFileConcurrency: 0, reserveAhead: 0 });
        second.on("job", ({ state, messageId = "" }) => {
            for (const user of users) most = Math.max(most, world.homeserver.pendingMedia(user));
            if (state === "replaced") began.push(Number(messageId.slice(1)));
            if (state === "done") done.push(Number(messageId.slice(1)));
        });
        await second.start();
        await until(() => done.length === 50, { limitMs: 60_000 });
        await until(() => sent.every(({ eventId, roomId: room }) => editsOf(eventId, room) === 1), { limitMs: 60_000 });

        expect(creating, "one address a file").to.equal(50);
        expect(most, "unused at once").to.be.at.most(4);
        const turn = (index: number): number => (index < 10 ? 40 + index : index - 10);
        // Four at a time: nobody, nor history, goes before more than those that the others have taken, however long these take.
        for (const [position, index] of began.entries()) {
            const passed = began.slice(position).filter((other) => turn(other) < turn(index));
            expect(passed, `turns before that of ${index}`).to.have.length.at.most(3);
        }
        for (const [index, { eventId, roomId: room }] of sent.entries()) {
            const { body } = await download(world.homeserver, shownUrl(eventId, room));
            expect(body.equals(files[index] ?? Buffer.alloc(0)), `file ${index}`).to.equal(true);
            expect(editsOf(eventId, room), `edits of ${index}`).to.equal(1);
        }
        for (const room of rooms) expect(editOrder(room)).to.deep.equal(turns(room));

        function editOrder(room: string): string[] {
            return [...edits(world.homeserver, room).keys()];
        }
        function turns(room: string): string[] {
            const indexes = [...began].filter((index) => rooms[index % 5] === room);
            return indexes.map((index) => sent[index]?.eventId ?? "");
        }
    });

    it("after a downtime what is new goes before history that is older than its addresses", async () => {
        await open({ unusedExpirationMs: HOUR });
        const asked: string[] = [];
        let release = (): void => {};
        const serve = (name: string): string =>
            remote.on(`/${name}`, (_request, response) => {
                asked.push(name);
                release = () => response.end(someBytes(100));
                if (asked.length > 2) release();
            });
        const send = (media: BridgeMedia, name: string, backfill: boolean) =>
            media.send(photoMessage(roomId, alice, { kind: "http", url: serve(name) }, { id: name, backfill }));
        const options = { concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 };
        const first = world.component(options);
        await first.start();
        for (let index = 0; index < 4; index++) await send(first, `history${index}`, true);
        await until(() => asked.length === 1);
        await first.close();
        expire(alice);

        const second = world.component(options);
        await second.start();
        // Of the first one again: it has the only place.
        await until(() => asked.length === 2);
        const { uploads } = await send(second, "new", false);
        release();
        await uploads[0]?.done;
        expect(asked[2]).to.equal("new");
    });

    it("a replacement that a crash cut off is neither lost nor made twice, and keeps its spooled bytes", async () => {
        await open({ unusedExpirationMs: HOUR });
        const bytes = someBytes(4000);
        const run = async (): Promise<BridgeMedia> => {
            const media = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
            await media.start();
            return media;
        };
        const stopUploads = world.homeserver.intercept((request) =>
            isUpload(request) ? { drop: "before", delayMs: 100 } : undefined,
        );
        const first = await run();
        const sent = await first.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes }));
        await until(() => world.homeserver.requests.some(isUpload));
        await first.close();
        expire(alice);
        // The edit never gets out in this run, nor does the file.
        const stopEdits = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") ? { drop: "before" } : undefined,
        );
        const second = await run();
        await until(async () => (await statesOf(second)).includes("replaced"));
        await second.close();
        stopEdits();
        stopUploads();

        const third = await run();
        await until(async () => (await statesOf(third)).includes("done"));
        await until(() => editsOf(sent.eventId) > 0);
        await until(() => world.homeserver.media(shownUrl(sent.eventId)));
        expect((await download(world.homeserver, shownUrl(sent.eventId))).body.equals(bytes)).to.equal(true);
        const states = await statesOf(third);
        expect(states.filter((state) => state !== "replaced")).to.deep.equal(["done"]);
        expect(await readdir(join(world.dataDir, "spool"))).to.deep.equal([]);
        await third.close();

        // What was replaced is forgotten together with what has its place.
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        await sweeperOf(store, world.dataDir).sweep(Date.now() + 1000);
        for (const collection of ["job", "schedule", "waiting", "expiring", "finished", "message"]) {
            for await (const key of store.keys({ collection })) expect.fail(`${collection} ${key} was left`);
        }
        await store.close();
    });
});

async function jobsOf(media: BridgeMedia): Promise<JobInfo[]> {
    const found: JobInfo[] = [];
    for await (const job of media.jobs()) found.push(job);
    return found;
}

async function jobOf(media: BridgeMedia, id: string): Promise<JobInfo | undefined> {
    return (await jobsOf(media)).find((job) => job.id === id);
}

async function statesOf(media: BridgeMedia): Promise<string[]> {
    return (await jobsOf(media)).map(({ state }) => state);
}
