import { expect } from "chai";
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

    it("costs one request with a warm reservation", async () => {
        const alice = world.ghost("alice");
        const roomId = await world.room(alice);
        const media = world.component();
        await media.start();
        const url = remote.file(someBytes(1000));
        await (await media.send(photoMessage(roomId, alice, { kind: "http", url }))).uploads[0]?.done;
        await until(() => world.homeserver.pendingMedia(alice) === 2);

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
});
