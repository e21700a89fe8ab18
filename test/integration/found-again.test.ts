import type { ServerResponse } from "node:http";
import { expect } from "chai";
import { REVISE } from "../../src/bridge/records.ts";
import { deferred } from "../../src/deferred.ts";
import type { BridgeMedia } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Range } from "../../src/store/store.ts";
import { edits, messages } from "../support/download.ts";
import { endInDoubt } from "../support/in-doubt.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

/** A journal whose marks are not looked at yet: what a process leaves that is killed between a mark and the look at it. */
class BlindStore extends LevelStore {
    static look = deferred();
    override async *keys(range: Range): AsyncIterable<string> {
        if (range.collection === REVISE) await BlindStore.look.promise;
        yield* super.keys(range);
    }
}

describe("what is found in its room by the next process", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let media: BridgeMedia;
    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene({ txnMemoryMs: 0, ...options }));
        media = world.component();
        await media.start();
    }
    afterEach(async () => {
        isThere = false;
        BlindStore.look.resolve();
        await closeScene({ world, remote });
    });

    const shown = (eventId: string) => edits(world.homeserver, roomId).get(eventId);
    const isNotice = (eventId: string) => shown(eventId)?.["msgtype"] === "m.notice";
    const jobState = async () => {
        for await (const { state } of media.jobs()) return state;
        return undefined;
    };
    async function startBlind(): Promise<void> {
        BlindStore.look = deferred();
        media = world.component({ store: (directory) => new BlindStore(directory) });
        await media.start();
    }
    let isThere = false;
    const late = () => {
        const answer = (_: unknown, response: ServerResponse) =>
            isThere ? response.end(someBytes(100)) : response.writeHead(404).end();
        return photoMessage(roomId, alice, { kind: "http", url: remote.on("/late", answer) });
    };
    const edit = { id: "edit", content: { msgtype: "m.image", body: "two", filename: "cat.jpg" } };

    it("an edit said that its file cannot be had, and it comes: it is shown", async () => {
        await open();
        const sent = await media.send(late());
        await until(() => isNotice(sent.eventId));
        const stop = await endInDoubt(world.homeserver, media, () => media.edit(sent.id, edit));
        expect(shown(sent.eventId)).to.include({ msgtype: "m.notice" });
        expect(shown(sent.eventId)?.["body"]).to.include("two");
        await startBlind();
        isThere = true;
        await media.retry(sent.uploads[0]?.jobId ?? "");
        await until(async () => (await jobState()) === "done");
        stop();
        await media.edit(sent.id, edit);
        BlindStore.look.resolve();
        const now = await until(() =>
            shown(sent.eventId)?.["msgtype"] === "m.notice" ? undefined : shown(sent.eventId),
        );
        expect(now).to.include({ body: "two" }).and.to.have.property("url");
    });

    it("a message said so, and it comes: it is shown", async () => {
        await open({ features: { create: false } });
        const message = late();
        const stop = await endInDoubt(world.homeserver, media, () => media.send(message));
        expect(messages(world.homeserver, roomId)[0]?.content).to.include({ msgtype: "m.notice" });
        await startBlind();
        isThere = true;
        for await (const { id } of media.jobs()) await media.retry(id);
        await until(async () => (await jobState()) === "done");
        stop();
        const { eventId } = await media.send(message);
        BlindStore.look.resolve();
        expect(await until(() => shown(eventId))).to.have.property("url");
    });

    it("an edit showed its file, and it cannot be had: the room is told", async () => {
        await open();
        let fail = (): void => {};
        const url = remote.on("/gone", (_request, response) => {
            fail = () => response.writeHead(404).end();
        });
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        await until(() => remote.requests.length === 1);
        const stop = await endInDoubt(world.homeserver, media, () => media.edit(sent.id, edit));
        expect(shown(sent.eventId)).to.have.property("url");
        await startBlind();
        await until(() => remote.requests.length === 2);
        fail();
        await until(async () => (await jobState()) === "failed");
        stop();
        await media.edit(sent.id, edit);
        BlindStore.look.resolve();
        const now = await until(() => (shown(sent.eventId)?.["url"] === undefined ? shown(sent.eventId) : undefined));
        expect(now["msgtype"]).to.equal("m.notice");
        expect(now["body"]).to.include("two");
    });

    it("what its sender does not see, and its transaction id brings up, may have said otherwise too", async () => {
        // Transaction ids are remembered.
        await open({ txnMemoryMs: 60_000 });
        const sent = await media.send(late());
        await until(() => isNotice(sent.eventId));
        const stop = await endInDoubt(world.homeserver, media, () => media.edit(sent.id, edit));
        await startBlind();
        isThere = true;
        await media.retry(sent.uploads[0]?.jobId ?? "");
        await until(async () => (await jobState()) === "done");
        // As a worker shows the room that is behind.
        world.homeserver.intercept(({ path }) =>
            path.includes("/messages") ? { status: 200, body: { chunk: [], start: "a" } } : undefined,
        );
        stop();
        await media.edit(sent.id, edit);
        BlindStore.look.resolve();
        const now = await until(() => (isNotice(sent.eventId) ? undefined : shown(sent.eventId)));
        expect(now).to.include({ body: "two" }).and.to.have.property("url");
    });

    it("a reply in an edit's place that says the same is not said twice", async () => {
        await open();
        const url = remote.on("/gone", (_request, response) => response.writeHead(404).end());
        const content = { body: "wave", info: { mimetype: "image/png" } };
        const items = [{ at: ["url"], source: { kind: "http", url } as const }];
        const sent = await media.send({
            id: "s",
            roomId,
            sender: alice,
            eventType: "m.sticker",
            content,
            media: items,
        });
        const replies = () => messages(world.homeserver, roomId).filter(({ type }) => type === "m.room.message");
        await until(() => replies().length === 1);
        const again = { id: "edit", content: { ...content, body: "wave two" } };
        const stop = await endInDoubt(world.homeserver, media, () => media.edit(sent.id, again));
        expect(replies()).to.have.length(2);
        stop();
        media = world.component();
        await media.start();
        await media.edit(sent.id, again);
        await media.send(textMessage(roomId, alice, "behind it"));
        await media.send(textMessage(roomId, alice, "and behind what that left"));
        expect(replies().map(({ content: { body } }) => body)).to.have.length(4);
    });

    it("what a moderator has redacted is not said again", async () => {
        await open();
        isThere = true;
        const sent = await media.send(late());
        await sent.uploads[0]?.done;
        const stop = await endInDoubt(world.homeserver, media, () => media.edit(sent.id, edit));
        const { event_id: eventId } = messages(world.homeserver, roomId).at(-1) ?? {};
        const path = `/rooms/${encodeURIComponent(roomId)}/redact/${encodeURIComponent(String(eventId))}/r1`;
        await world.request(world.bot, "PUT", path, {});
        stop();
        media = world.component();
        await media.start();
        expect((await media.edit(sent.id, edit)).eventId).to.equal(eventId);
        await media.send(textMessage(roomId, alice, "behind it"));
        await media.send(textMessage(roomId, alice, "and behind what that left"));
        expect(JSON.stringify(messages(world.homeserver, roomId))).not.to.include("two");
    });

    it("what an outage kept until a restart is said once", async () => {
        await open();
        isThere = true;
        const sent = await media.send(late());
        await sent.uploads[0]?.done;
        const stop = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") ? { status: 503, body: {} } : undefined,
        );
        const editing = media.edit(sent.id, edit).catch(() => {});
        await until(() => world.homeserver.requests.some(({ status }) => status === 503));
        await media.close();
        await editing;
        stop();
        media = world.component();
        await media.start();
        await media.edit(sent.id, edit);
        await media.send(textMessage(roomId, alice, "behind it"));
        await media.send(textMessage(roomId, alice, "and behind what that left"));
        const said = messages(world.homeserver, roomId).map(({ content }) => content["body"]);
        expect(said).to.deep.equal(["cat.jpg", "* two", "behind it", "and behind what that left"]);
    });

    // Which of the two is looked at first goes by their ids.
    for (const id of ["a", "z"])
        it(`an edit that was taken back meanwhile is said by nobody any more: of a message ${id}`, async () => {
            await open();
            const sent = await media.send({ ...late(), id });
            await until(() => isNotice(sent.eventId));
            const secret = { id: "edit", content: { ...edit.content, body: "a secret" } };
            const stop = await endInDoubt(world.homeserver, media, () => media.edit(sent.id, secret));
            await startBlind();
            isThere = true;
            await media.retry(sent.uploads[0]?.jobId ?? "");
            await until(async () => (await jobState()) === "done");
            const cancelling = media.cancelMessage(secret.id, { redact: true });
            stop();
            await cancelling;
            BlindStore.look.resolve();
            const now = await until(() => (isNotice(sent.eventId) ? undefined : shown(sent.eventId)));
            expect(now).to.have.property("url");
            await until(() => world.homeserver.events(roomId).some(({ type }) => type === "m.room.redaction"));
            expect(JSON.stringify(messages(world.homeserver, roomId))).not.to.include("a secret");
        });
});
