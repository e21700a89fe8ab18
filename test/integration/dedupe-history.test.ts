import { mkdtemp, rm } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Addresses, type AddressesParts } from "../../src/bridge/dedupe/addresses.ts";
import { deferred } from "../../src/deferred.ts";
import type { BridgeMedia, BridgeMediaOptions, MediaError, RemoteMessage } from "../../src/index.ts";
import type { Job } from "../../src/uploads/job.ts";
import { messages } from "../support/download.ts";
import { copyImage } from "../support/image.ts";
import { photoMessage } from "../support/messages.ts";
import { type Remote, someBytes, startRemote } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

/** What is new goes before history, also where the two have a file in common and history's job transfers it. */
const BYTES = someBytes(3000);
const dedupeKey = "sticker";

/** A file whose server gives nothing before it is let; from then on it answers at once. */
interface Held {
    readonly url: string;
    /** How often it was asked for. */
    readonly asked: () => number;
    /** Answers those who have asked so far. */
    readonly answer: (status: number) => void;
    readonly open: () => void;
}

function held(remote: Remote, path: string): Held {
    const waiting: ServerResponse[] = [];
    let isOpen = false;
    let count = 0;
    const give = (response: ServerResponse, status = 200): void => {
        const body = status === 200 ? BYTES : Buffer.alloc(0);
        response.writeHead(status, { "content-length": body.length }).end(body);
    };
    const url = remote.on(path, (_request, response) => {
        count++;
        if (isOpen) give(response);
        else waiting.push(response);
    });
    const answer = (status: number): void => {
        for (const response of waiting.splice(0)) give(response, status);
    };
    return {
        url,
        asked: () => count,
        answer,
        open: () => {
            isOpen = true;
            answer(200);
        },
    };
}

describe("a live file that shares its upload with history", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    /** So that trouble of one source closes no other one's. */
    let elsewhere: Remote;
    let media: BridgeMedia;
    let sticker: Held;
    let slow: Held;

    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
        elsewhere = await startRemote();
        sticker = held(remote, "/sticker");
        slow = held(elsewhere, "/slow");
    }
    afterEach(async () => {
        await closeScene({ world, remote });
        await elsewhere.close();
    });

    /** A component of which history may have all places but one. */
    async function started(concurrency = 2, options: Partial<BridgeMediaOptions> = {}): Promise<void> {
        media = world.component({ concurrency, smallFileConcurrency: 0, ...options });
        await media.start();
    }
    const message = (url: string, backfill: boolean, room = roomId): RemoteMessage =>
        photoMessage(room, alice, { kind: "http", url }, { backfill }, { dedupeKey });
    /** History that has a place for as long as the test lasts. */
    const slowHistory = (): RemoteMessage =>
        photoMessage(roomId, alice, { kind: "http", url: slow.url }, { backfill: true });
    const stateOf = async (jobId: string | undefined): Promise<string | undefined> => {
        for await (const { id, state } of media.jobs()) if (id === jobId) return state;
        return undefined;
    };
    const isDone = async (jobId: string | undefined): Promise<boolean> => (await stateOf(jobId)) === "done";

    describe("which leads", () => {
        beforeEach(() => open());

        it("and waits again for its try has failed, has its own turn", async () => {
            await started();
            const old = await media.send(message(sticker.url, true));
            await until(() => sticker.asked() === 1);
            await media.send(slowHistory());
            sticker.answer(503);
            await until(() => slow.asked() === 1, { what: "history has all its places" });
            sticker.open();
            const fresh = await media.send(message(sticker.url, false));
            await until(() => isDone(fresh.uploads[0]?.jobId), { what: "the live file" });
            expect(await stateOf(old.uploads[0]?.jobId)).to.equal("done");
            expect(sticker.asked(), "one upload for both").to.equal(2);
        });

        it("and fails only when it is followed already, has its own turn", async () => {
            await started();
            await media.send(message(sticker.url, true));
            await until(() => sticker.asked() === 1);
            const fresh = await media.send(message(sticker.url, false));
            await media.send(slowHistory());
            sticker.answer(503);
            await until(() => slow.asked() === 1, { what: "history has all its places" });
            sticker.open();
            await until(() => isDone(fresh.uploads[0]?.jobId), { what: "the live file" });
            expect(sticker.asked(), "one upload for both").to.equal(2);
        });

        it("and is cut off by a restart, has its own turn", () => cutOff(async () => {}));

        it("and is cut off by a crash, has its own turn", async () => {
            const dataDir = await mkdtemp(join(tmpdir(), "bridge-media-"));
            await cutOff(async () => {
                await copyImage(world.dataDir, dataDir);
                return { dataDir };
            });
            await media.close();
            await rm(dataDir, { recursive: true, force: true });
        });

        /** @param end What becomes of the process before it is closed. */
        async function cutOff(end: () => Promise<Partial<BridgeMediaOptions> | void>): Promise<void> {
            await started(3);
            await media.send(slowHistory());
            await until(() => slow.asked() === 1);
            await media.send(message(sticker.url, true));
            await until(() => sticker.asked() === 1);
            const fresh = await media.send(message(sticker.url, false));
            const options = await end();
            await media.close();
            sticker.open();
            await started(2, options ?? {});
            await until(() => slow.asked() === 2, { what: "history has all its places" });
            await until(() => isDone(fresh.uploads[0]?.jobId), { what: "the live file" });
        }

        it("in its place, since its own source gave nothing, has its own turn", async () => {
            await started();
            await media.send(slowHistory());
            await until(() => slow.asked() === 1, { what: "history has all its places" });
            const mine = held(remote, "/mine");
            const fresh = await media.send(message(mine.url, false));
            await until(() => mine.asked() === 1);
            sticker.open();
            const old = await media.send(message(sticker.url, true));
            mine.answer(404);
            await until(() => isDone(fresh.uploads[0]?.jobId), { what: "the live file" });
            expect(await stateOf(old.uploads[0]?.jobId)).to.equal("done");
        });
    });

    describe("on a homeserver without /create", () => {
        beforeEach(() => open({ features: { create: false } }));

        const areSent = (count: number) => () => messages(world.homeserver, roomId).length === count;
        const isQueued = async (jobs = 0): Promise<boolean> => {
            let count = 0;
            for await (const { state } of media.jobs()) if (state !== "done") count++;
            return count === jobs;
        };
        const slowUpload = (): void =>
            void media.upload({ kind: "http", url: slow.url }, { userId: alice, backfill: true }).catch(() => {});
        const oldUpload = () =>
            media.upload({ kind: "http", url: sticker.url }, { userId: alice, backfill: true, dedupeKey });

        it("has its room wait for no turn of an upload() of the history", async () => {
            await started();
            slowUpload();
            await until(() => slow.asked() === 1, { what: "history has all its places" });
            sticker.open();
            const old = oldUpload();
            await until(() => isQueued(2));
            const fresh = media.send(message(sticker.url, false));
            await until(areSent(1), { what: "its event" });
            expect((await fresh).uploads[0]?.contentUri).to.equal((await old).contentUri);
            expect(sticker.asked(), "one upload for both").to.equal(1);
        });

        it("nor where that one's try fails, nor for another one's behind that", async () => {
            await started();
            const first = oldUpload().catch(({ code }: MediaError) => code);
            const second = oldUpload();
            await until(() => sticker.asked() === 1);
            const fresh = media.send(message(sticker.url, false));
            slowUpload();
            await until(() => isQueued(3));
            sticker.answer(404);
            await until(() => slow.asked() === 1, { what: "history has all its places" });
            sticker.open();
            await until(areSent(1), { what: "its event" });
            expect((await fresh).uploads[0]?.contentUri).to.equal((await second).contentUri);
            expect(await first).to.equal("SOURCE_NOT_FOUND");
        });

        it("nor of a message of the history that waits in another room", async () => {
            await started();
            slowUpload();
            await until(() => slow.asked() === 1, { what: "history has all its places" });
            sticker.open();
            const other = await world.room(alice);
            const old = media.send(message(sticker.url, true, other));
            await until(() => isQueued(2));
            const fresh = media.send(message(sticker.url, false));
            await until(areSent(1), { what: "its event" });
            expect((await fresh).uploads[0]?.contentUri).to.equal((await old).uploads[0]?.contentUri);
        });
    });
});

describe("those that wait for one of them to bring their file without /create", () => {
    it("tell nobody but who does, however many they are, and the next one when its turn has come", async () => {
        const told: string[] = [];
        const parts = { hasten: (jobId: string) => void told.push(jobId) };
        const addresses = new Addresses(parts as unknown as AddressesParts);
        const job = (id: string, backfill: boolean) =>
            ({ id, backfill, dedupe: "file", messageId: id }) as unknown as Job;
        const ends: (() => void)[] = [];
        const alone = (id: string, backfill: boolean) => {
            const { promise, resolve } = deferred();
            ends.push(resolve);
            return addresses.alone(job(id, backfill), () => promise);
        };
        const history = Array.from({ length: 100 }, (_, index) => alone(`old ${index}`, true));
        const live = Array.from({ length: 100 }, (_, index) => alone(`new ${index}`, false));
        expect(new Set(told)).to.deep.equal(new Set(["old 0"]));
        expect(told).to.have.length(100);
        ends[0]?.();
        await history[0];
        await until(() => told.at(-1) === "old 1");
        for (const end of ends) end();
        await Promise.all([...history, ...live]);
        expect(new Set(told).size).to.equal(100);
    });
});
