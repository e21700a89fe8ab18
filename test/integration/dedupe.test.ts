import { expect } from "chai";
import type { BridgeMedia, JobInfo, MediaError, MediaItem, RemoteMessage, SentMessage } from "../../src/index.ts";
import { download, edits, messages } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const BYTES = someBytes(30_000);

async function doneOf({ uploads: [upload] }: SentMessage): Promise<JobInfo | undefined> {
    return upload?.done;
}

describe("a file that messages have in common", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    function sticker(url: string, room = roomId, item: Partial<MediaItem> = {}): RemoteMessage {
        return photoMessage(room, alice, { kind: "http", url }, {}, { dedupeKey: "sticker/1", ...item });
    }

    async function started(options: Parameters<typeof world.component>[0] = {}): Promise<BridgeMedia> {
        const media = world.component(options);
        await media.start();
        return media;
    }

    const uploads = (): number =>
        world.homeserver.requests.filter(({ method, path }) => method === "PUT" && path.includes("/upload/")).length;
    const probes = (): number => world.homeserver.requests.filter(({ path }) => path.includes("/download/")).length;
    const created = (): number => world.homeserver.requests.filter(({ path }) => path.includes("/v1/create")).length;

    /** A file whose server answers only when it is let. */
    function gated(path: string, answer: "file" | "404" = "file") {
        let isOpen = false;
        const waiting: (() => void)[] = [];
        const url = remote.on(path, (_request, response) => {
            const reply = (): void => {
                if (answer === "404") response.writeHead(404).end();
                else response.writeHead(200, { "content-length": BYTES.length }).end(BYTES);
            };
            if (isOpen) reply();
            else waiting.push(reply);
        });
        const open = (): void => {
            isOpen = true;
            for (const reply of waiting) reply();
        };
        return { url, open };
    }

    const asked = (path: string): number => remote.requests.filter(({ url }) => url === path).length;
    const uris = (): unknown[] => messages(world.homeserver, roomId).map(({ content }) => content["url"]);

    async function expectThere(mxc: unknown): Promise<void> {
        const { status, body } = await download(world.homeserver, String(mxc), 0);
        expect(status).to.equal(200);
        expect(body.equals(BYTES)).to.equal(true);
    }

    it("is transferred once for sends at the same time, in many rooms, and all are done with it", async () => {
        const { url, open } = gated("/sticker");
        const media = await started();
        const rooms = [roomId, await world.room(alice), await world.room(alice)];
        const sends = await Promise.all(
            Array.from({ length: 30 }, (_, index) => media.send(sticker(url, rooms[index % 3]))),
        );
        await until(() => asked("/sticker") === 1);
        open();
        const ends = await Promise.all(sends.map(doneOf));
        expect(new Set(ends.map((end) => end?.contentUri)).size).to.equal(1);
        expect(new Set(sends.map(({ uploads: [upload] }) => upload?.contentUri)).size).to.equal(1);
        await expectThere(ends[0]?.contentUri);
        expect(uploads()).to.equal(1);
        expect(asked("/sticker")).to.equal(1);
        expect(edits(world.homeserver, roomId).size).to.equal(0);
    });

    it("needs no job, no address and no request once it is there, also after a restart", async () => {
        const first = await started();
        const url = remote.file(BYTES);
        const brought = await first.send(sticker(url));
        const contentUri = (await brought.uploads[0]?.done)?.contentUri;
        await first.close();

        const second = await started({ reserveAhead: 0 });
        const before = created();
        const again = sticker(url, roomId, { source: { kind: "buffer", data: BYTES } });
        const sent = await second.send(again);
        expect(sent.uploads[0]).to.include({ contentUri, jobId: brought.uploads[0]?.jobId });
        expect(await sent.uploads[0]?.done).to.include({ state: "done", size: BYTES.length, roomId });
        expect(uris()).to.deep.equal([contentUri, contentUri]);
        expect((await second.send(again)).uploads).to.have.length(1);
        expect([uploads(), probes(), created() - before]).to.deep.equal([1, 0, 0]);
        const jobs = [];
        for await (const job of second.jobs()) jobs.push(job);
        expect(jobs).to.have.length(1);
    });

    it("is another one for another uploader, key or transformation", async () => {
        const bob = world.ghost("bob");
        const other = await world.room(alice, bob);
        const media = await started();
        const url = remote.file(BYTES);
        const messagesOf = [
            sticker(url, other),
            { ...sticker(url, other), sender: bob },
            sticker(url, other, { dedupeKey: "sticker/2" }),
            sticker(url, other, { transformVersion: 2 }),
            sticker(url, other, { transformVersion: "2" }),
        ];
        const found = new Set<string | undefined>();
        for (const message of messagesOf) found.add((await (await media.send(message)).uploads[0]?.done)?.contentUri);
        expect(found.size).to.equal(messagesOf.length);
    });

    it("mixes with files of their own in one message, handles in the order of media", async () => {
        const media = await started();
        const url = remote.file(BYTES);
        await (await media.send(sticker(url))).uploads[0]?.done;
        const sent = await media.send({
            ...sticker(url),
            media: [
                { at: ["info", "thumbnail_url"], source: { kind: "http", url: remote.file(someBytes(50)) } },
                { at: ["url"], source: { kind: "http", url }, dedupeKey: "sticker/1" },
            ],
        });
        expect(sent.uploads.map(({ at }) => at.at(-1))).to.deep.equal(["thumbnail_url", "url"]);
        for (const { done } of sent.uploads) expect((await done).state).to.equal("done");
        expect(uploads()).to.equal(2);
    });

    it("is taken over by another message whose source still works, and no message shows a failure", async () => {
        const broken = gated("/broken", "404");
        const media = await started();
        const ready: string[] = [];
        media.on("job", ({ id, state }) => void (state === "ready" && ready.push(id)));
        const first = await media.send(sticker(broken.url));
        await until(() => asked("/broken") === 1);
        const second = await media.send(sticker(remote.file(BYTES)));
        // Released with its event, and put aside when its turn came.
        await until(() => ready.filter((id) => id === second.uploads[0]?.jobId).length === 2);
        broken.open();
        const ends = await Promise.all([first, second].map(doneOf));
        expect(ends[0]?.contentUri).to.equal(ends[1]?.contentUri);
        await expectThere(ends[0]?.contentUri);
        expect(edits(world.homeserver, roomId).size).to.equal(0);
    });

    it("fails for all once a few sources gave nothing, and the next message begins anew", async () => {
        const gate = gated("/gone", "404");
        const media = await started();
        const sends = await Promise.all(Array.from({ length: 12 }, () => media.send(sticker(gate.url))));
        await until(() => asked("/gone") === 1);
        gate.open();
        for (const {
            uploads: [upload],
            eventId,
        } of sends) {
            expect(await upload?.done.catch(({ code }: MediaError) => code)).to.equal("SOURCE_NOT_FOUND");
            await until(() => edits(world.homeserver, roomId).get(eventId)?.["msgtype"] === "m.notice");
        }
        expect(asked("/gone")).to.be.within(2, 4);
        const later = await media.send(sticker(remote.file(BYTES)));
        await expectThere((await later.uploads[0]?.done)?.contentUri);
    });

    it("goes on for the others when the message that transfers it is cancelled", async () => {
        const { url } = gated("/slow");
        const media = await started();
        const first = await media.send(sticker(url));
        await until(() => asked("/slow") === 1);
        const second = await media.send(sticker(remote.file(BYTES)));
        await media.cancel(first.uploads[0]?.jobId ?? "");
        expect(await first.uploads[0]?.done.catch(({ code }: MediaError) => code)).to.equal("CANCELLED");
        await expectThere((await second.uploads[0]?.done)?.contentUri);
        await until(() => edits(world.homeserver, roomId).has(first.eventId));
        expect(edits(world.homeserver, roomId).has(second.eventId)).to.equal(false);
    });

    it("goes on when one that waits for it is cancelled", async () => {
        const { url, open } = gated("/slow");
        const media = await started();
        const first = await media.send(sticker(url));
        await until(() => asked("/slow") === 1);
        const second = await media.send(sticker(url));
        await media.cancel(second.uploads[0]?.jobId ?? "");
        open();
        await expectThere((await first.uploads[0]?.done)?.contentUri);
        await until(() => edits(world.homeserver, roomId).has(second.eventId));
    });

    it("stays with the others when a message is refused", async () => {
        const closed = await world.room();
        await world.request(world.bot, "PUT", `/rooms/${encodeURIComponent(closed)}/state/m.room.join_rules`, {
            join_rule: "private",
        });
        const stranger = world.homeserver.intercept(({ path }) =>
            path.includes(encodeURIComponent(closed)) ? { status: 403, body: { errcode: "M_FORBIDDEN" } } : undefined,
        );
        const media = await started({ reserveAhead: 0 });
        const url = remote.file(BYTES);
        const refused = media.send(sticker(url, closed)).catch(({ code }: MediaError) => code);
        const sent = await media.send(sticker(url));
        expect(await refused).to.equal("FORBIDDEN");
        await expectThere((await sent.uploads[0]?.done)?.contentUri);
        await media.send(sticker(url));
        expect(uploads()).to.equal(1);

        // Refused before anybody else had it: its address stays the file's and is nobody else's.
        const item = { dedupeKey: "sticker/2" };
        const again = await media.send(sticker(url, closed, item)).catch(({ code }: MediaError) => code);
        expect(again).to.equal("FORBIDDEN");
        const photo = await media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(someBytes(9)) }));
        const second = await media.send(sticker(url, roomId, item));
        expect(second.uploads[0]?.contentUri).not.to.equal(photo.uploads[0]?.contentUri);
        await expectThere((await second.uploads[0]?.done)?.contentUri);
        stranger();
    });

    it("is not held up by a message whose room is", async () => {
        const stuck = await world.room(alice);
        const stop = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") && path.includes(encodeURIComponent(stuck)) ? { status: 503 } : undefined,
        );
        const media = await started();
        const url = remote.file(BYTES);
        const waiting = media.send(sticker(url, stuck));
        await until(() => world.homeserver.requests.some(({ status }) => status === 503));
        const sent = await media.send(sticker(url));
        await expectThere((await sent.uploads[0]?.done)?.contentUri);
        stop();
        expect((await (await waiting).uploads[0]?.done)?.contentUri).to.equal(sent.uploads[0]?.contentUri);
        expect(uploads()).to.equal(1);
    });

    it("is looked at once when that was long ago, and uploaded anew when the homeserver lost it", async () => {
        const media = await started({ dedupeCheckMs: 0 });
        const url = remote.file(BYTES);
        const first = await (await media.send(sticker(url))).uploads[0]?.done;
        await Promise.all([media.send(sticker(url)), media.send(sticker(url, await world.room(alice)))]);
        expect(probes()).to.be.within(1, 2);
        expect(uploads()).to.equal(1);

        const stop = world.homeserver.intercept(({ path }) =>
            path.includes("/download/") ? { status: 404, body: { errcode: "M_NOT_FOUND" } } : undefined,
        );
        const anew = await (await media.send(sticker(url))).uploads[0]?.done;
        stop();
        expect(anew?.contentUri).not.to.equal(first?.contentUri);
        await expectThere(anew?.contentUri);
        expect(uploads()).to.equal(2);
    });

    it("is used as it is when the homeserver cannot say whether it has it", async () => {
        const media = await started({ dedupeCheckMs: 1 });
        const url = remote.file(BYTES);
        const first = await (await media.send(sticker(url))).uploads[0]?.done;
        world.homeserver.intercept(({ path }) => (path.includes("/download/") ? { status: 502 } : undefined));
        await until(
            async () => (await media.send(sticker(url))).uploads[0]?.contentUri === first?.contentUri && probes() > 0,
        );
        expect(uploads()).to.equal(1);
    });

    it("goes on after a restart while many wait for it", async () => {
        const { url, open } = gated("/slow");
        const first = await started();
        const sends = await Promise.all(Array.from({ length: 8 }, () => first.send(sticker(url))));
        await until(() => asked("/slow") === 1);
        await first.close();
        open();
        const second = await started();
        for (const {
            uploads: [upload],
        } of sends) {
            await until(async () => {
                for await (const { id, state } of second.jobs({ state: "done" }))
                    if (id === upload?.jobId) return state;
                return undefined;
            });
        }
        expect(uploads()).to.equal(1);
        await expectThere(sends[0]?.uploads[0]?.contentUri);
    });

    it("is uploaded once by upload() too, with the same address at once", async () => {
        const { url, open } = gated("/slow");
        const media = await started();
        const options = { userId: alice, dedupeKey: "sticker/1" };
        const [one, other] = await Promise.all([1, 2].map(() => media.upload({ kind: "http", url }, options)));
        expect(one?.contentUri).to.equal(other?.contentUri);
        open();
        await Promise.all([one?.done, other?.done]);
        const later = await media.upload({ kind: "http", url }, options);
        expect(later.contentUri).to.equal(one?.contentUri);
        expect((await later.done).state).to.equal("done");
        expect(uploads()).to.equal(1);
    });
});

describe("a file in common, on a homeserver without /create", () => {
    it("is uploaded once", async () => {
        const { world, remote, alice, roomId } = await openScene({ features: { create: false } });
        const media = world.component();
        await media.start();
        const url = remote.file(BYTES);
        const item = { dedupeKey: "sticker/1" };
        const rooms = [roomId, await world.room(alice), await world.room(alice)];
        const sends = await Promise.all(
            rooms.map((room) => media.send(photoMessage(room, alice, { kind: "http", url }, {}, item))),
        );
        expect(new Set(sends.map(({ uploads: [upload] }) => upload?.contentUri)).size).to.equal(1);
        const posts = world.homeserver.requests.filter(
            ({ method, path }) => method === "POST" && path.endsWith("/upload"),
        );
        expect(posts).to.have.length(1);
        await closeScene({ world, remote });
    });
});
