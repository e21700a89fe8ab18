import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect } from "chai";
import { Level } from "level";
import { Registry } from "prom-client";
import { type BridgeMedia, type Connector, type JobInfo, MediaError } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Range, Write } from "../../src/store/store.ts";
import { bodies, download, edits, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { Clock } from "../support/model.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { sweeperOf } from "../support/sweeper.ts";
import { until } from "../support/until.ts";
import { openWorld } from "../support/world.ts";

describe("over time", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
    }
    let clock: Clock | undefined;
    afterEach(async () => {
        clock?.restore();
        clock = undefined;
        await closeScene({ world, remote });
    });

    /** The journal, as it is when all that is over has been forgotten. */
    async function swept(): Promise<LevelStore> {
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        await sweeperOf(store, world.dataDir).sweep(Date.now() + 1000);
        return store;
    }

    /** Whether another component gets the folder, and works. */
    async function expectAnother(): Promise<void> {
        const other = world.component();
        await other.start();
        expect((await other.send(textMessage(roomId, alice, "in time"))).eventId).to.match(/^\$/);
    }

    it("starts while the homeserver is down, journals, and says it all when it is there", async () => {
        const homeserverDir = await mkdtemp(join(tmpdir(), "homeserver-"));
        await open({ dataDir: homeserverDir });
        const port = Number(new URL(world.homeserver.url).port);
        await world.homeserver.close();
        const media = world.component();
        await media.start();
        const bytes = someBytes(5000);
        const sends = [
            media.send(textMessage(roomId, alice, "one")),
            media.send(
                photoMessage(
                    roomId,
                    alice,
                    { kind: "buffer", data: bytes },
                    { content: { msgtype: "m.file", body: "two" } },
                ),
            ),
            media.send(textMessage(roomId, alice, "three")),
        ];
        await until(async () => (await levelsOf(media)).messages === 3);
        const again = await openWorld({ dataDir: homeserverDir, port });
        const [, photo] = await Promise.all(sends);
        expect(bodies(again.homeserver, roomId)).to.deep.equal(["one", "two", "three"]);
        await photo?.uploads[0]?.done;
        const { body } = await download(again.homeserver, photo?.uploads[0]?.contentUri ?? "");
        expect(body.equals(bytes)).to.equal(true);
        await media.close();
        await again.close();
        await rm(homeserverDir, { recursive: true, force: true });
    });

    it("a connector is asked again after a restart, by the reference that was journaled", async () => {
        await open();
        const bytes = someBytes(3000);
        const asked: unknown[] = [];
        const never: Connector = { open: () => new Promise(() => {}) };
        const first = world.component({ connectors: { chat: never } });
        await first.start();
        const ref = { file: "F1", token: "old" };
        const sent = await first.send(photoMessage(roomId, alice, { kind: "connector", connector: "chat", ref }));
        await first.close();

        const connector: Connector = {
            async open(given, { offset }) {
                asked.push(given);
                if ((given as { token?: string }).token === "old") throw new MediaError("SOURCE_FORBIDDEN");
                return { stream: Readable.from([bytes.subarray(offset)]), size: bytes.length };
            },
            refresh: async (given) => ({ ...(given as object), token: "new" }),
        };
        const second = world.component({ connectors: { chat: connector } });
        await second.start();
        await until(async () => world.homeserver.media(sent.uploads[0]?.contentUri ?? ""));
        expect(asked).to.deep.equal([ref, { file: "F1", token: "new" }]);
    });

    it("a connector that is no longer given fails its file, which comes once it is given again", async () => {
        await open();
        const bytes = someBytes(3000);
        const connector: Connector = {
            open: async (_ref, { offset }) => ({ stream: Readable.from([bytes.subarray(offset)]), size: bytes.length }),
        };
        const first = world.component({ connectors: { chat: { open: () => new Promise(() => {}) } } });
        await first.start();
        const sent = await first.send(photoMessage(roomId, alice, { kind: "connector", connector: "chat", ref: 1 }));
        await first.close();

        const shown = () => edits(world.homeserver, roomId).get(sent.eventId);
        const second = world.component();
        await second.start();
        const notice = await until(shown, { what: "the notice" });
        expect(notice["body"]).to.contain("the bridge no longer knows how to fetch the file");
        const [failed] = await failedOf(second);
        expect(failed?.error).to.include({ code: "CONNECTOR_UNKNOWN" });
        await second.close();

        const third = world.component({ connectors: { chat: connector } });
        await third.start();
        await third.retry(failed?.id ?? "");
        await until(async () => world.homeserver.media(sent.uploads[0]?.contentUri ?? ""));
        await until(() => shown()?.["msgtype"] === "m.image");
    });

    it("a reservation that is about to end is not used any more", async () => {
        const HOUR = 3_600_000;
        clock = new Clock();
        await open({ unusedExpirationMs: HOUR });
        const media = world.component();
        await media.start();
        const url = remote.file(someBytes(100));
        await (await media.send(photoMessage(roomId, alice, { kind: "http", url }))).uploads[0]?.done;
        await until(() => world.homeserver.pendingMedia(alice) === 2);
        clock.advance(HOUR + 1000);
        expect(world.homeserver.pendingMedia(alice)).to.equal(0);
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        expect((await sent.uploads[0]?.done)?.state).to.equal("done");
    });

    it("results are forgotten after a time, and what is under way is not", async () => {
        await open();
        const media = world.component();
        await media.start();
        const done = await media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(someBytes(10)) }));
        await done.uploads[0]?.done;
        const never = { kind: "http", url: remote.on("/never", () => {}) } as const;
        const thumbnail = { kind: "http", url: remote.file(someBytes(20)) } as const;
        const half = await media.send({
            ...photoMessage(roomId, alice, never),
            media: [
                { at: ["url"], source: never },
                { at: ["info", "thumbnail_url"], source: thumbnail },
            ],
        });
        await half.uploads[1]?.done;
        await media.close();

        const store = await swept();
        const left: string[] = [];
        for await (const key of store.keys({ collection: "job" })) left.push(key);
        // And what the same event shows: it would be missing from an edit.
        expect(left).to.have.length(2);
        // Its message too: without it an address that ends could not be replaced.
        const kept: string[] = [];
        for await (const key of store.keys({ collection: "message" })) kept.push(key);
        expect(kept).to.have.length(1);
        await store.close();

        const again = world.component();
        await again.start();
        const states: string[] = [];
        for await (const { state } of again.jobs()) states.push(state);
        expect(states).to.have.length(2);
        expect(messages(world.homeserver, roomId)).to.have.length(2);
    });

    it("nor what stands in a line, although its file was there long ago", async () => {
        await open({ features: { create: false } });
        let isDown = true;
        world.homeserver.intercept(({ path }) =>
            isDown && path.includes("/send/") ? { status: 503, body: {} } : undefined,
        );
        const media = world.component();
        await media.start();
        const url = remote.file(someBytes(1000));
        media.send(photoMessage(roomId, alice, { kind: "http", url })).catch(() => {});
        await until(async () => {
            for await (const { state } of media.jobs()) if (state === "done") return true;
            return false;
        });
        await media.close();
        await (await swept()).close();
        isDown = false;
        const again = world.component();
        await again.start();
        const [event] = await until(() => {
            const found = messages(world.homeserver, roomId);
            return found.length > 0 ? found : undefined;
        });
        expect(event?.content["url"]).to.match(/^mxc:/);
    });

    it("close() while it starts ends the start, and lets go of the folder", async () => {
        await open();
        const media = world.component();
        const starting = Promise.all([media.start(), media.start()]).then(
            () => "started",
            ({ code }: MediaError) => code,
        );
        await media.close();
        expect(await starting).to.equal("CLOSED");
        const late = media.send(textMessage(roomId, alice, "late")).catch(({ code }: MediaError) => code);
        expect(await late).to.equal("CLOSED");
        await expectAnother();
    });

    it("says NOT_STARTED before start(), and writes nothing", async () => {
        await open();
        const media = world.component();
        const source = { kind: "buffer", data: Buffer.from("x") } as const;
        for (const call of [
            () => media.send(textMessage(roomId, alice, "early")),
            () => media.edit("text/1", { id: "edit/1", content: { body: "early" } }),
            () => media.upload(source, { userId: alice }),
            () => media.avatar(alice, source),
            () => media.roomAvatar(roomId, source),
            () => media.jobs().next(),
            () => media.retry("1"),
            () => media.cancel("1"),
            () => media.cancelMessage("text/1"),
        ]) {
            const code = await Promise.resolve(call()).catch((error: MediaError) => error.code);
            expect(code, String(call)).to.equal("NOT_STARTED");
        }
        expect(await readdir(world.dataDir)).to.deep.equal([]);
        await media.start();
        expect((await media.send(textMessage(roomId, alice, "in time"))).eventId).to.match(/^\$/);
    });

    it("says STORE_UNUSABLE where the folder can be none, and starts once it can", async () => {
        await open();
        const journal = join(world.dataDir, "journal");
        await writeFile(journal, "a file of somebody else's");
        const media = world.component();
        const error = await media.start().catch((reason: MediaError) => reason);
        expect(error).to.include({ name: "MediaError", code: "STORE_UNUSABLE", retryable: false });
        expect(await readFile(journal, "utf8")).to.equal("a file of somebody else's");
        await rm(journal);
        await media.start();
        expect((await media.send(textMessage(roomId, alice, "in time"))).eventId).to.match(/^\$/);
    });

    it("start() may be called again when the folder was in use, and close() ends one that failed midway", async () => {
        await open();
        const first = world.component();
        await first.start();
        const second = world.component();
        const started = () =>
            second.start().then(
                () => "started",
                ({ code }: MediaError) => code,
            );
        expect(await started()).to.equal("STORE_LOCKED");
        await first.close();
        expect(await started()).to.equal("started");
        await second.close();

        class Failing extends LevelStore {
            override async *keys(range: Range): AsyncIterable<string> {
                if (range.collection === "outbox") throw new MediaError("STORE_READ_FAILED");
                yield* super.keys(range);
            }
        }
        const third = world.component({ store: (directory) => new Failing(directory) });
        expect(await third.start().catch(({ code }: MediaError) => code)).to.equal("STORE_READ_FAILED");
        await third.close();
        await expectAnother();
    });

    it("a file whose record was damaged is told as lost, in its room, its job and its retry", async () => {
        await open();
        const never: Connector = { open: () => new Promise(() => {}) };
        const first = world.component({ connectors: { chat: never } });
        await first.start();
        const sent = await first.send(photoMessage(roomId, alice, { kind: "connector", connector: "chat", ref: 1 }));
        const jobId = sent.uploads[0]?.jobId ?? "";
        await first.close();
        const db = new Level(join(world.dataDir, "journal"));
        const key = `job\u0000${jobId}`;
        await db.put(key, ((await db.get(key)) ?? "").replace("chat", "chap"));
        await db.close();

        const second = world.component({ connectors: { chat: never } });
        await second.start();
        const notice = await until(() => edits(world.homeserver, roomId).get(sent.eventId), { what: "the notice" });
        expect(notice["body"]).to.contain("the bridge has lost track of the file");
        const [failed] = await failedOf(second);
        expect(failed?.id).to.equal(jobId);
        expect(failed?.error).to.include({ code: "STORE_DAMAGED" });
        // Nobody knows where it was to come from.
        await second.retry(jobId);
        await until(async () => (await failedOf(second))[0]?.error?.code === "SPOOL_MISSING");
    });

    it("every edit that a damaged journal asks for is sent, and the counts are right", async () => {
        await open();
        const media = world.component();
        await media.start();
        const eventIds: string[] = [];
        for (let index = 0; index < 3; index++) {
            const url = remote.file(someBytes(1000 + index));
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            await sent.uploads[0]?.done;
            eventIds.push(sent.eventId);
        }
        await media.close();
        // As damage would: the records of the files are gone, and of their ends.
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        const writes: Write[] = [{ collection: "meta", key: "damaged", record: { reviewed: false } }];
        for await (const key of store.keys({ collection: "job" })) writes.push({ collection: "job", key });
        for await (const key of store.keys({ collection: "finished" }))
            if (key.includes(" job ")) writes.push({ collection: "finished", key });
        await store.commit(writes);
        await store.close();
        const again = world.component();
        await again.start();
        await until(() => eventIds.every((id) => edits(world.homeserver, roomId).get(id)?.["msgtype"] === "m.notice"));
        await until(async () => {
            const { messages: pending, jobs } = await levelsOf(again);
            return pending === 0 && jobs === 0;
        });
    });

    it("a listener that throws does not take the transfer with it", async () => {
        await open();
        const media = world.component();
        media.on("job", () => {
            throw new Error("in the listener");
        });
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(someBytes(10)) }));
        expect((await sent.uploads[0]?.done)?.state).to.equal("done");
    });
});

async function failedOf(media: BridgeMedia): Promise<JobInfo[]> {
    const failed: JobInfo[] = [];
    for await (const job of media.jobs({ state: "failed" })) failed.push(job);
    return failed;
}

async function levelsOf(media: { registerMetrics(registry: Registry): void }) {
    const registry = new Registry();
    media.registerMetrics(registry);
    const text = await registry.metrics();
    const pending = (what: string) =>
        Number(new RegExp(`^bridge_media_pending_${what} (-?\\d+)$`, "m").exec(text)?.[1]);
    return { messages: pending("messages"), jobs: pending("jobs") };
}
