import { expect } from "chai";
import type { BridgeMedia, MediaError, MediaItem } from "../../src/index.ts";
import { silentLogger } from "../../src/logger.ts";
import { bodies, download, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { Clock } from "../support/model.ts";
import { sha256, someBytes, startRemote } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const isCreate = ({ path }: { path: string }): boolean => path.includes("/media/v1/create");

describe("reservations", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
    }
    afterEach(() => closeScene({ world, remote }));

    it("are kept ahead, journaled, and used again after a restart", async () => {
        await open();
        const url = remote.file(someBytes(100));
        const first = world.component();
        await first.start();
        await (await first.send(photoMessage(roomId, alice, { kind: "http", url }))).uploads[0]?.done;
        await until(() => world.homeserver.pendingMedia(alice) === 2);
        await first.close();

        const before = world.homeserver.requests.filter(isCreate).length;
        const second = world.component();
        await second.start();
        await second.send(photoMessage(roomId, alice, { kind: "http", url }));
        const sending = world.homeserver.requests.findLastIndex(({ path }) => path.includes("/send/"));
        expect(world.homeserver.requests.slice(0, sending).filter(isCreate)).to.have.length(before);
    });

    it("a user at its limit waits for its own uploads, not for the told time", async () => {
        await open({ rateLimited: true, maxPendingMedia: 2 });
        const media = world.component();
        await media.start();
        const url = remote.file(someBytes(2000));
        const sent = await Promise.all(
            Array.from({ length: 8 }, () => media.send(photoMessage(roomId, alice, { kind: "http", url }))),
        );
        for (const { uploads } of sent) await uploads[0]?.done;
        expect(messages(world.homeserver, roomId)).to.have.length(8);
    });

    it("one message with more files than the user may reserve does not wait for itself", async () => {
        await open({ rateLimited: true, maxPendingMedia: 2 });
        const media = world.component();
        await media.start();
        const files = Array.from({ length: 5 }, () => someBytes(3000));
        const sent = await media.send({
            id: "gallery",
            roomId,
            sender: alice,
            content: { msgtype: "m.gallery", body: "five", items: files.map(() => "") },
            media: files.map((bytes, index) => ({
                at: ["items", String(index)],
                source: { kind: "http", url: remote.file(bytes) },
            })),
        });
        for (const [index, upload] of sent.uploads.entries()) {
            await upload.done;
            const { body } = await download(world.homeserver, upload.contentUri ?? "");
            expect(sha256(body)).to.equal(sha256(files[index] ?? Buffer.alloc(0)));
        }
    });

    it("a server that says 500 at its limit, as matrix-media-repo does, keeps no message waiting for its own files", async () => {
        await open();
        world.homeserver.intercept((request) =>
            isCreate(request) && world.homeserver.pendingMedia(alice) >= 5
                ? { status: 500, body: { errcode: "M_UNKNOWN", error: "unexpected error" } }
                : undefined,
        );
        const media = world.component();
        await media.start();
        const began = Date.now();
        const sent = await media.send({
            id: "gallery",
            roomId,
            sender: alice,
            content: { msgtype: "m.gallery", body: "six", items: Array(6).fill("") },
            media: Array.from({ length: 6 }, (_, index) => ({
                at: ["items", String(index)],
                source: { kind: "http", url: remote.file(someBytes(3000)) },
            })),
        });
        for (const { done } of sent.uploads) await done;
        expect(Date.now() - began, "it waits for none of its files to be sent before").to.be.lessThan(4000);
    });

    it("files that failed hold their addresses for a day: their uploader's next ones go without, in order", async () => {
        await open({ rateLimited: true, maxPendingMedia: 2 });
        const logged: string[] = [];
        const ignore = (): void => {};
        const warn = (text: string): void => void logged.push(text);
        const logger = { debug: ignore, info: ignore, warn, error: ignore };
        const media = world.component({ uploadAs: "bot", reserveAhead: 0, logger });
        await media.start();
        const photo = (url: string, room = roomId) => photoMessage(room, alice, { kind: "http", url });
        for (let count = 0; count < 2; count++) {
            const [gone] = (await media.send(photo(`${remote.url}/gone`))).uploads;
            expect(await gone?.done.catch(({ code }: MediaError) => code)).to.equal("SOURCE_NOT_FOUND");
        }
        const bytes = someBytes(1000);
        const sends = [
            media.send(photo(remote.file(bytes))),
            media.send(textMessage(roomId, alice, "behind it")),
            media.send(photo(remote.file(bytes))),
            media.send(photo(remote.file(bytes), await world.room(alice))),
        ];
        const bare = media.upload({ kind: "http", url: remote.file(bytes) }, { userId: alice });
        const sent = await Promise.all(sends);
        expect(bodies(world.homeserver, roomId).slice(2)).to.deep.equal(["cat.jpg", "behind it", "cat.jpg"]);
        const uris = sent.flatMap(({ uploads }) => uploads.map(({ contentUri = "" }) => contentUri));
        expect(uris).to.have.length(3);
        for (const uri of [...uris, (await bare).contentUri])
            expect((await download(world.homeserver, uri, 0)).body.equals(bytes)).to.equal(true);
        const text = "A user gets no address any more: its files are uploaded before their messages";
        expect(logged.filter((one) => one === text)).to.have.length(1);
    });

    it("one that goes without, and whose source lets it wait, is sent as soon as there is an address", async () => {
        await open({ rateLimited: true, maxPendingMedia: 1 });
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        const bytes = someBytes(1000);
        let end = (): void => {};
        const held = remote.on("/held", (_request, response) => {
            end = () => response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        const photo = (url: string) => photoMessage(roomId, alice, { kind: "http", url });
        await media.send(photo(held));
        const elsewhere = await startRemote();
        const busy = elsewhere.on("/busy", (_request, response) => {
            response.writeHead(429, { "retry-after": "3600" }).end();
        });
        const sending = media.send(photo(busy));
        await until(async () => {
            for await (const { error } of media.jobs()) if (error?.code === "SOURCE_RATE_LIMITED") return true;
            return false;
        });
        end();
        expect((await sending).uploads[0]?.contentUri).to.match(/^mxc:/);
        await elsewhere.close();
    });

    describe("a user that gets none for long", () => {
        let clock: Clock;
        let media: BridgeMedia;
        let isLimited: boolean;
        let refused: number;
        beforeEach(async () => {
            clock = new Clock();
            await open();
            [isLimited, refused] = [true, 0];
            world.homeserver.intercept((request) => {
                if (!isCreate(request) || !isLimited) return undefined;
                refused++;
                return { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", error: "no", retry_after_ms: 200 } };
            });
            media = world.component({ reserveAhead: 0 });
            await media.start();
        });
        afterEach(() => clock.restore());

        /** Until it goes without, and its file's source has been asked. */
        const goesWithout = async (): Promise<void> => {
            await until(() => refused > 0);
            clock.advance(6000);
            await until(async () => {
                for await (const { error } of media.jobs()) if (error !== undefined) return true;
                return false;
            });
        };
        const photo = (url: string, item: Partial<MediaItem> = {}) =>
            photoMessage(roomId, alice, { kind: "http", url }, {}, item);

        it("has its messages held up by no upload() of the same file", async () => {
            const down = remote.on("/down", (_request, response) => {
                response.writeHead(503, { "retry-after": "3600" }).end();
            });
            const bare = media.upload({ kind: "http", url: down }, { userId: alice, dedupeKey: "one" });
            bare.catch(() => {});
            await goesWithout();
            isLimited = false;
            const elsewhere = await startRemote();
            const { uploads } = await media.send(photo(elsewhere.file(someBytes(1000)), { dedupeKey: "one" }));
            expect((await uploads[0]?.done)?.state).to.equal("done");
            await elsewhere.close();
        });

        it("has them sent with the next address, where another file has closed their source", async () => {
            const busy = remote.on("/busy", (_request, response) => {
                response.writeHead(429, { "retry-after": "3600" }).end();
            });
            const first = photo(busy);
            const cancelled = media.send(first).catch(({ code }: MediaError) => code);
            await goesWithout();
            await media.cancelMessage(first.id);
            expect(await cancelled).to.equal("CANCELLED");
            const before = refused;
            const sending = media.send(photo(remote.file(someBytes(1000))));
            await until(() => refused > before);
            isLimited = false;
            expect((await sending).uploads[0]?.contentUri).to.match(/^mxc:/);
            expect(remote.requests.map(({ url }) => url)).to.deep.equal(["/busy"]);
        });

        it("has them wait for a source that is only busy, before what no message waits for", async () => {
            const told: string[] = [];
            const logger = { ...silentLogger, warn: (text: string) => void told.push(text) };
            const sourceLimits = { [remote.url]: { concurrency: 1 } };
            const limited = world.component({ reserveAhead: 0, sourceLimits, logger });
            await media.close();
            await limited.start();
            let end = (): void => {};
            const held = remote.on("/held", (_request, response) => {
                end = () => response.writeHead(200, { "content-length": 3 }).end("abc");
            });
            isLimited = false;
            await limited.send(photo(held));
            await until(() => remote.requests.length === 1);
            await limited.send(photo(remote.on("/behind", () => {})));
            isLimited = true;
            const sending = limited.send(photo(remote.file(someBytes(1000))));
            await until(() => refused > 0);
            clock.advance(6000);
            await until(() => told.some((text) => text.startsWith("A user gets no address any more")));
            // The way of a message into its room: longer than into the line of those that are waited for.
            await limited.send(textMessage(await world.room(alice), alice, "elsewhere"));
            end();
            expect((await sending).uploads[0]?.contentUri).to.match(/^mxc:/);
            expect(remote.requests[1]?.url).not.to.equal("/behind");
        });
    });

    it("a server without /create gets the files first, in order, and is asked once", async () => {
        await open({ features: { create: false } });
        const media = world.component();
        await media.start();
        const bytes = someBytes(50_000);
        const url = remote.file(bytes);
        const content = (body: string) => ({ msgtype: "m.image", body, info: { mimetype: "image/jpeg" } });
        const sends = await Promise.all([
            media.send(textMessage(roomId, alice, "one")),
            media.send(photoMessage(roomId, alice, { kind: "http", url }, { content: content("two") })),
            media.send(textMessage(roomId, alice, "three")),
            media.send(
                photoMessage(roomId, alice, { kind: "http", url: `${remote.url}/gone` }, { content: content("four") }),
            ),
            media.send(textMessage(roomId, alice, "five")),
        ]);
        const shown = bodies(world.homeserver, roomId);
        expect(shown.slice(0, 3)).to.deep.equal(["one", "two", "three"]);
        expect(shown[3]).to.contain("could not be bridged");
        expect(shown[4]).to.equal("five");
        const { body } = await download(world.homeserver, sends[1]?.uploads[0]?.contentUri ?? "");
        expect(sha256(body)).to.equal(sha256(bytes));
        expect(world.homeserver.requests.filter(isCreate)).to.have.length(1);
    });

    it("upload() gives an MXC at once, for code that sends its events itself", async () => {
        await open();
        const media = world.component();
        await media.start();
        const bytes = someBytes(70_000);
        const { contentUri, done } = await media.upload(
            { kind: "buffer", data: bytes },
            { userId: alice, mimetype: "image/png" },
        );
        expect(contentUri).to.match(/^mxc:\/\/example\.org\//);
        await done;
        expect((await download(world.homeserver, contentUri)).body.equals(bytes)).to.equal(true);
        expect(world.homeserver.media(contentUri)?.contentType).to.equal("image/png");
    });
});
