import { PassThrough } from "node:stream";
import { expect } from "chai";
import { Registry } from "prom-client";
import type { MediaError } from "../../src/index.ts";
import { bodies, download, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { type Remote, sha256, someBytes, startRemote } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "../support/world.ts";

describe("send()", () => {
    let world: World;
    let remote: Remote;
    beforeEach(async () => {
        world = await openWorld();
        remote = await startRemote();
    });
    afterEach(async () => {
        await world.close();
        await remote.close();
    });

    it("shows the photo's event before a byte of the file was read, and uploads the file behind it", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const bytes = someBytes(300_000);
        let release: () => void = () => {};
        const url = remote.on("/slow.jpg", (_request, response) => {
            release = () => response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        const media = world.component();
        await media.start();

        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const [event] = messages(world.homeserver, roomId);
        const mxc = String(event?.content["url"]);
        expect(event?.event_id).to.equal(sent.eventId);
        expect(mxc)
            .to.match(/^mxc:\/\/example\.org\//)
            .and.equal(sent.uploads[0]?.contentUri);
        expect((await download(world.homeserver, mxc, 0)).status).to.equal(504);

        await until(() => remote.requests.length === 1);
        release();
        const done = await sent.uploads[0]?.done;
        expect(done).to.include({ state: "done", size: bytes.length });
        expect(sha256((await download(world.homeserver, mxc)).body)).to.equal(sha256(bytes));
    });

    it("reads no byte of a file while its event is still on its way, whatever else the queue does", async () => {
        const alice = world.ghost("alice");
        const [stuck, other] = [await world.room(alice), await world.room(alice)];
        const media = world.component();
        await media.start();
        const url = remote.file(someBytes(100));
        await (await media.send(photoMessage(other, alice, { kind: "http", url }))).uploads[0]?.done;
        await until(() => world.homeserver.pendingMedia(alice) === 2);

        const stop = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") && path.includes(encodeURIComponent(stuck)) ? { status: 503 } : undefined,
        );
        const waiting = remote.file(someBytes(101));
        const sending = media.send(photoMessage(stuck, alice, { kind: "http", url: waiting }));
        await until(() => world.homeserver.requests.some(({ status }) => status === 503));
        await (await media.send(photoMessage(other, alice, { kind: "http", url }))).uploads[0]?.done;
        expect(remote.requests.filter((request) => waiting.endsWith(request.url ?? "?"))).to.have.length(0);
        stop();
        await (await sending).uploads[0]?.done;
    });

    it("keeps the order of the calls in a room, text and media mixed, without awaiting them", async () => {
        const [alice, bob] = [world.ghost("alice"), world.ghost("bob")];
        const roomId = await world.room(alice, bob);
        const media = world.component();
        await media.start();
        const url = remote.file(someBytes(10_000));
        const expected: string[] = [];
        const sends = Array.from({ length: 40 }, (_, index) => {
            const sender = index % 3 === 0 ? bob : alice;
            expected.push(`message ${index}`);
            const content = { msgtype: "m.image", body: `message ${index}`, info: { mimetype: "image/jpeg" } };
            return index % 4 === 1
                ? media.send(photoMessage(roomId, sender, { kind: "http", url }, { content }))
                : media.send(textMessage(roomId, sender, `message ${index}`));
        });
        await Promise.all(sends);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(expected);
    });

    it("a message whose bytes are still being spooled keeps its place before later ones", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const media = world.component();
        await media.start();
        const stream = new PassThrough();
        const content = { msgtype: "m.file", body: "first" };
        const first = media.send(photoMessage(roomId, alice, { kind: "stream", stream }, { content }));
        const second = media.send(textMessage(roomId, alice, "second"));
        const other = await world.room(alice);
        await media.send(textMessage(other, alice, "elsewhere"));
        stream.end("bytes");
        await Promise.all([first, second]);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["first", "second"]);
    });

    it("… also when one between them is known already, or is refused at once", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const media = world.component({ maxSpoolBytes: 1000 });
        await media.start();
        const known = textMessage(roomId, alice, "known");
        await media.send(known);
        const refused = photoMessage(roomId, alice, { kind: "buffer", data: someBytes(2000) });
        for (const between of [known, refused]) {
            const stream = new PassThrough();
            const content = { msgtype: "m.file", body: "first" };
            const first = media.send(photoMessage(roomId, alice, { kind: "stream", stream }, { content }));
            await media.send(between).catch(({ code }: MediaError) => expect(code).to.equal("SPOOL_FULL"));
            const second = media.send(textMessage(roomId, alice, "second"));
            // The way of a message into its room, in another one.
            await media.send(textMessage(await world.room(alice), alice, "elsewhere"));
            stream.end("bytes");
            await Promise.all([first, second]);
        }
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["known", "first", "second", "first", "second"]);
    });

    it("does not mind remote ids that mean something elsewhere", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const media = world.component();
        await media.start();
        for (const id of ["error", "newListener", "__proto__", "../..", "%00", "cat"]) {
            await media.send(textMessage(roomId, alice, id, { id }));
        }
        expect(bodies(world.homeserver, roomId)).to.have.length(6);
    });

    it("close() lets go of everybody who waits, and what was journaled goes on at the next start", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const stop = world.homeserver.intercept(({ path }) => (path.includes("/send/") ? { status: 502 } : undefined));
        const first = world.component();
        await first.start();
        const message = textMessage(roomId, alice, "later");
        const stream = new PassThrough();
        const waiting = [
            first.send(message),
            first.send(photoMessage(await world.room(alice), alice, { kind: "stream", stream })),
        ].map((sending) => sending.catch(({ code }: MediaError) => code));
        await until(() => world.homeserver.requests.some(({ path }) => path.includes("/send/")));
        await first.close();
        const [closed, unfinished] = await Promise.all(waiting);
        expect(closed).to.equal("CLOSED");
        expect(unfinished).to.equal("CLOSED");
        expect(await first.send(message).catch(({ code }: MediaError) => code)).to.equal("CLOSED");

        stop();
        const second = world.component();
        await second.start();
        await until(() => bodies(world.homeserver, roomId).length === 1);
        expect((await second.send(message)).eventId).to.equal(messages(world.homeserver, roomId)[0]?.event_id);
    });

    it("costs one request with a warm reservation", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const media = world.component();
        await media.start();
        const url = remote.file(someBytes(1000));
        const registry = new Registry();
        media.registerMetrics(registry);
        await (await media.send(photoMessage(roomId, alice, { kind: "http", url }))).uploads[0]?.done;
        await until(async () => (await registry.metrics()).includes("bridge_media_reservations 2\n"));

        const before = world.homeserver.requests.length;
        const sending = media.send(photoMessage(roomId, alice, { kind: "http", url: remote.on("/never", () => {}) }));
        await sending;
        const made = world.homeserver.requests
            .slice(before)
            .map(({ method, path }) => `${method} ${path.split("?")[0]}`);
        expect(made[0]).to.match(/^PUT .*\/send\//);
    });

    it("returns the first result for the same id, and warns when the content differs", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const warnings: string[] = [];
        const note = (): void => {};
        const logger = { debug: note, info: note, error: note, warn: (text: string) => void warnings.push(text) };
        const media = world.component({ logger });
        await media.start();
        const message = textMessage(roomId, alice, "once", { id: "the same" });
        const first = await media.send(message);
        expect((await media.send(message)).eventId).to.equal(first.eventId);
        expect(warnings).to.have.length(0);
        expect((await media.send({ ...message, content: { msgtype: "m.text", body: "twice" } })).eventId).to.equal(
            first.eventId,
        );
        expect(warnings).to.have.length(1);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["once"]);
    });

    it("the other calls name what is wrong too", async () => {
        const media = world.component();
        await media.start();
        const wrong: [field: string, call: () => unknown][] = [
            ["state", () => media.jobs({ state: "broken" as "done" }).next()],
            ["stat", () => media.jobs({ stat: "done" } as object).next()],
            ["event", () => media.on("jobs" as "job", () => {})],
            ["event", () => media.off("jobs" as "job", () => {})],
            ["listener", () => media.on("job", {} as () => void)],
            ["registry", () => media.registerMetrics({} as Registry)],
            ["registry", () => media.registerMetrics(undefined as unknown as Registry)],
        ];
        for (const [field, call] of wrong) {
            const error: unknown = await (async () => call())().catch((thrown: unknown) => thrown);
            expect(error, field).to.include({ code: "INVALID_ARGUMENT", field });
            expect((error as Error).message).to.match(/^\S+: An argument is not what the call takes/);
        }
        for await (const _ of media.jobs({ state: undefined } as object)) expect.fail("there is none");
    });
});
