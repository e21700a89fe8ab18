import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect } from "chai";
import type { BridgeMedia, MediaError, MediaSource } from "../../src/index.ts";
import { download } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

describe("bounds", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    it("no more transfers at once than `concurrency`, and all come to their turn", async () => {
        const held: (() => void)[] = [];
        let most = 0;
        let now = 0;
        const bytes = someBytes(100);
        const url = remote.on("/held", (_request, response) => {
            most = Math.max(most, ++now);
            held.push(() => {
                now--;
                response.writeHead(200, { "content-length": bytes.length }).end(bytes);
            });
        });
        const media = world.component({ concurrency: 2 });
        await media.start();
        const sent = await Promise.all(
            Array.from({ length: 7 }, () => media.send(photoMessage(roomId, alice, { kind: "http", url }))),
        );
        for (let done = 0; done < 7; done++) (await until(() => held.shift()))();
        for (const { uploads } of sent) await uploads[0]?.done;
        expect(most).to.equal(2);
    });

    it("small files have `smallFileConcurrency` places beside large ones, and no more", async () => {
        const held: (() => void)[] = [];
        let most = 0;
        const hold = (name: string): string =>
            remote.on(`/${name}`, (_request, response) => {
                held.push(() => response.writeHead(200, { "content-length": 3 }).end(someBytes(3)));
                most = Math.max(most, held.length);
            });
        const media = world.component({ concurrency: 1, smallFileConcurrency: 2 });
        await media.start();
        const send = (name: string, size: number) =>
            media.send(photoMessage(roomId, alice, { kind: "http", url: hold(name) }, {}, { size }));
        const sent = [await send("video", 40 * 2 ** 20), await send("another", 40 * 2 ** 20)];
        await until(() => held.length === 1);
        for (const name of ["photo-1", "photo-2", "photo-3"]) sent.push(await send(name, 3));
        const asked = () => remote.requests.map(({ url }) => url?.slice(1));
        await until(() => held.length === 3);
        // Long enough for another one to begin, were there room for it.
        for (let count = 0; count < 5; count++) await media.send(textMessage(roomId, alice, `${count}`));
        expect(asked()).to.have.members(["video", "photo-1", "photo-2"]);
        held.pop()?.();
        await until(() => held.length === 3);
        expect(asked()[3]).to.equal("photo-3");
        for (let done = 1; done < 5; done++) (await until(() => held.shift()))();
        for (const { uploads } of sent) await uploads[0]?.done;
        expect(most).to.equal(3);
    });

    it("BACKLOG_FULL beyond maxPendingJobs, also for calls made at once; room again when work is done", async () => {
        const stop = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") ? { status: 503, body: {} } : undefined,
        );
        const media = world.component({ maxPendingJobs: 5 });
        await media.start();
        const sends = Array.from({ length: 9 }, (_, index) => media.send(textMessage(roomId, alice, `${index}`)));
        const outcomes = sends.map((sending) =>
            sending.then(
                () => "sent",
                (error: MediaError) => error.code,
            ),
        );
        expect(await Promise.all(outcomes.slice(5))).to.deep.equal(Array.from({ length: 4 }, () => "BACKLOG_FULL"));
        stop();
        expect(await Promise.all(outcomes.slice(0, 5))).to.deep.equal(Array.from({ length: 5 }, () => "sent"));
        await media.send(textMessage(roomId, alice, "again"));
    });

    it("SPOOL_FULL refuses a buffer before anything is journaled, and leaves nothing behind", async () => {
        const media = world.component({ maxSpoolBytes: 10_000 });
        await media.start();
        const message = photoMessage(roomId, alice, { kind: "buffer", data: someBytes(20_000) });
        expect(await media.send(message).catch((error: MediaError) => error)).to.include({ code: "SPOOL_FULL" });
        expect(await readdir(join(world.dataDir, "spool"))).to.deep.equal([]);
        expect(await jobCount(media)).to.equal(0);
        const small = photoMessage(roomId, alice, { kind: "buffer", data: someBytes(9000) }, { id: message.id });
        await (await media.send(small)).uploads[0]?.done;
        await until(async () => (await readdir(join(world.dataDir, "spool"))).length === 0);
    });

    it("a stream, and a source without a length, go through the spool and leave nothing there", async () => {
        const media = world.component();
        await media.start();
        const bytes = someBytes(300_000);
        const url = remote.on("/chunked", (_request, response) => {
            response.writeHead(200);
            response.write(bytes.subarray(0, 100_000));
            response.end(bytes.subarray(100_000));
        });
        const text = await media.send(
            photoMessage(
                roomId,
                alice,
                { kind: "stream", stream: Readable.from(["grüß ", "dich"]) },
                { content: { msgtype: "m.file", body: "greeting.txt" } },
            ),
        );
        expect(await text.uploads[0]?.done).to.include({ size: Buffer.byteLength("grüß dich") });
        const chunks = [bytes.subarray(0, 70_000), bytes.subarray(70_000)];
        for (const source of [
            { kind: "stream", stream: Readable.from(chunks) },
            { kind: "http", url },
        ] as const) {
            const { uploads } = await media.send(photoMessage(roomId, alice, source));
            expect(await uploads[0]?.done).to.include({ size: bytes.length });
            const { body } = await download(world.homeserver, uploads[0]?.contentUri ?? "");
            expect(body.equals(bytes)).to.equal(true);
        }
        await until(async () => (await readdir(join(world.dataDir, "spool"))).length === 0);
    });

    const waits = [
        { what: "send() that waits for its event", at: "/send/", call: "send", isJournaled: true },
        { what: "upload() that waits for an address", at: "/media/v1/create", call: "upload", isJournaled: false },
        { what: "avatar() that waits for an address", at: "/media/v1/create", call: "avatar", isJournaled: false },
        { what: "avatar() that waits for its file", at: "/media/v3/upload", call: "avatar", isJournaled: true },
    ] as const;
    for (const { what, at, call, isJournaled } of waits) {
        it(`${what} keeps nothing in memory of the bytes that it has spooled`, async () => {
            const stop = world.homeserver.intercept(({ path }) =>
                path.includes(at)
                    ? { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", error: "wait", retry_after_ms: 600_000 } }
                    : undefined,
            );
            const media = world.component({ reserveAhead: 0 });
            await media.start();
            const before = usedByBuffers();
            const calls = {
                send: (source: MediaSource) => media.send(photoMessage(roomId, alice, source)),
                upload: (source: MediaSource) => media.upload(source, { userId: alice }),
                avatar: (source: MediaSource, index: number) => media.avatar(world.ghost(`a${index}`), source),
            };
            const waiting = Array.from({ length: 16 }, (_, index) =>
                calls[call]({ kind: "buffer", data: someBytes(2 ** 20) }, index).catch(({ code }: MediaError) => code),
            );
            await until(async () => (await readdir(join(world.dataDir, "spool"))).length === 16);
            await until(async () => !isJournaled || (await jobCount(media)) === 16);
            await until(() => usedByBuffers() - before < 4 * 2 ** 20);
            await media.close();
            expect(new Set(await Promise.all(waiting))).to.deep.equal(new Set(["CLOSED"]));
            stop();
        });
    }

    it("live files go before backfill, small before large", async () => {
        const order: string[] = [];
        const serve = (name: string): string =>
            remote.on(`/${name}`, (_request, response) => {
                order.push(name);
                response.writeHead(200, { "content-length": 3 }).end(someBytes(3));
            });
        let release: () => void = () => {};
        const blocker = remote.on("/blocker", (_request, response) => {
            release = () => response.writeHead(200, { "content-length": 3 }).end(someBytes(3));
        });
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0 });
        await media.start();
        await media.send(photoMessage(roomId, alice, { kind: "http", url: blocker }));
        await until(() => remote.requests.length === 1);
        const send = (name: string, size: number, backfill = false) =>
            media.send(photoMessage(roomId, alice, { kind: "http", url: serve(name) }, { backfill }, { size }));
        const sent = [];
        sent.push(await send("history", 3, true));
        sent.push(await send("large", 40 * 2 ** 20));
        sent.push(await send("small", 3));
        release();
        // The promised sizes only order the work here; what comes is three bytes, and the large one is allowed to be less.
        for (const { uploads } of sent) await uploads[0]?.done;
        expect(order).to.deep.equal(["small", "large", "history"]);
    });
});

/** What no longer is, is not counted. */
function usedByBuffers(): number {
    setFlagsFromString("--expose-gc");
    (runInNewContext("gc") as () => void)();
    return process.memoryUsage().arrayBuffers;
}

async function jobCount(media: BridgeMedia): Promise<number> {
    let count = 0;
    for await (const _ of media.jobs()) count++;
    return count;
}
