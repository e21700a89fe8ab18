import { writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { deferred } from "../../src/deferred.ts";
import type {
    BridgeMediaOptions,
    KnownOfFile,
    MediaError,
    MediaItem,
    MediaSource,
    RemoteMessage,
    SentMessage,
} from "../../src/index.ts";
import { bodies, download, messages } from "../support/download.ts";
import { textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const JPEG = Buffer.concat([Buffer.from("FFD8FFE000104A464946000101", "hex"), someBytes(900_000)]);
let count = 0;

describe("probeHeaders", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    function probed(
        source: MediaSource,
        content: RemoteMessage["content"] = {},
        item: Partial<MediaItem> = {},
    ): RemoteMessage {
        return {
            id: `probed/${count++}`,
            roomId,
            sender: alice,
            content,
            media: [{ at: ["url"], source, probeHeaders: true, ...item }],
        };
    }

    const serve = (path: string, headers: Record<string, string>, bytes = JPEG): MediaSource => ({
        kind: "http",
        url: remote.on(path, (_request: IncomingMessage, response: ServerResponse) => {
            response.writeHead(200, { "content-length": bytes.length, ...headers }).end(bytes);
        }),
    });

    const shown = (eventId: string): Record<string, unknown> =>
        messages(world.homeserver, roomId).find(({ event_id }) => event_id === eventId)?.content ?? {};

    async function started(options: Partial<BridgeMediaOptions> = {}) {
        const media = world.component(options);
        await media.start();
        return media;
    }

    it("fills in what the message leaves out, and transfers over the same connection", async () => {
        const media = await started();
        const cases = [
            ["image/jpeg", "m.image"],
            ["video/mp4; codecs=avc1", "m.video"],
            ["audio/ogg", "m.audio"],
            ["application/pdf", "m.file"],
        ] as const;
        for (const [type, msgtype] of cases) {
            // Bytes that are of no known kind, so that every type may have them.
            const bytes = Buffer.concat([Buffer.from("plain"), someBytes(500_000)]);
            const name = "filename*=UTF-8''na%C3%AFve%20cat.jpg; filename=cat.jpg";
            const source = serve(
                `/${msgtype}`,
                { "content-type": type, "content-disposition": `attachment; ${name}` },
                bytes,
            );
            const sent = await media.send(probed(source));
            await sent.uploads[0]?.done;
            const contentUri = sent.uploads[0]?.contentUri ?? "";
            expect(shown(sent.eventId)).to.deep.equal({
                msgtype,
                body: "naïve cat.jpg",
                url: contentUri,
                info: { mimetype: type.split(";")[0], size: bytes.length },
            });
            expect(sha256((await download(world.homeserver, contentUri)).body)).to.equal(sha256(bytes));
        }
        expect(remote.requests).to.have.length(cases.length);
    });

    it("leaves what the message says as it is", async () => {
        const media = await started({ describe: async () => ({ w: 1, h: 2 }) });
        const content = {
            msgtype: "m.image",
            body: "Look!",
            info: { mimetype: "image/png", w: 640, size: 1 },
            "org.example": { kept: true },
        };
        const source = serve("/a%20cat.jpg", { "content-type": "image/jpeg" });
        const sent = await media.send(probed(source, content));
        await sent.uploads[0]?.done;
        const { url, ...rest } = shown(sent.eventId);
        expect(url).to.equal(sent.uploads[0]?.contentUri);
        expect(rest).to.deep.equal({ ...content, filename: "a cat.jpg", info: { ...content.info, h: 2 } });
        const named = { msgtype: "m.file", body: "Look!", filename: "mine.bin" };
        const other = await media.send(probed(source, named, { mimetype: "application/zip", size: 7 }));
        const { info, ...said } = shown(other.eventId);
        expect(said).to.deep.equal({ ...named, url: other.uploads[0]?.contentUri });
        expect(info).to.deep.equal({ mimetype: "application/zip", size: 7, w: 1, h: 2 });
    });

    /** What is found of a photo and of its thumbnail, each in its place. */
    const expectWithThumbnail = ({ eventId, uploads: [photo, thumbnail] }: SentMessage): void => {
        expect(shown(eventId)).to.deep.equal({
            msgtype: "m.image",
            body: "cat.jpg",
            url: photo?.contentUri,
            info: {
                mimetype: "image/jpeg",
                size: JPEG.length,
                thumbnail_url: thumbnail?.contentUri,
                thumbnail_info: { size: JPEG.length },
            },
        });
    };

    it("of a thumbnail goes into `thumbnail_info`; a connector and a file of this machine are probed as well", async () => {
        const path = join(world.dataDir, "plan.bin");
        await writeFile(path, JPEG);
        let opens = 0;
        const connectors = {
            net: {
                async open() {
                    opens++;
                    return {
                        stream: Readable.from([JPEG]),
                        size: JPEG.length,
                        mimetype: "image/jpeg",
                        filename: "../x/cat.jpg",
                    };
                },
            },
        };
        const media = await started({ connectors });
        const thumbnail = {
            at: ["info", "thumbnail_url"],
            source: { kind: "file", path },
            probeHeaders: true,
        } as const;
        const message = probed({ kind: "connector", connector: "net", ref: 1 });
        const sent = await media.send({ ...message, media: [...(message.media ?? []), thumbnail] });
        for (const { done } of sent.uploads) await done;
        expect(opens).to.equal(1);
        expectWithThumbnail(sent);
    });

    it("an encrypted file's places stand for the plain ones, in a room in the clear", async () => {
        const media = await started();
        const source = serve("/cat.jpg", { "content-type": "image/jpeg" });
        const thumbnail = { at: ["info", "thumbnail_file"], source: serve("/small.jpg", {}), probeHeaders: true };
        const message = probed(source, {}, { at: ["file"] });
        const sent = await media.send({ ...message, media: [...(message.media ?? []), thumbnail] });
        for (const { done } of sent.uploads) await done;
        expectWithThumbnail(sent);
        expect(sent.uploads.map(({ at }) => at)).to.deep.equal([["url"], ["info", "thumbnail_url"]]);
        const ofOwnKind = { ...probed(source, {}), eventType: "org.example.own" };
        const own = await media.send({ ...ofOwnKind, media: [{ at: ["file"], source }, thumbnail] });
        const event = world.homeserver.events(roomId).find(({ event_id }) => event_id === own.eventId);
        expect(event?.content, "whose keys are its sender's").to.deep.equal({
            file: own.uploads[0]?.contentUri,
            info: { thumbnail_file: own.uploads[1]?.contentUri, thumbnail_info: { size: JPEG.length } },
        });
    });

    it("that is late or fails holds nothing up: the message goes out as m.file, in its order", async () => {
        const media = await started({ timeLimits: { probeMs: 150 }, maxAttempts: 1, describe: async () => ({}) });
        let release: (() => void) | undefined;
        const slow = remote.on("/slow", (_request, response) => {
            const answer = (): void => {
                response.writeHead(200, { "content-length": JPEG.length, "content-type": "image/jpeg" }).end(JPEG);
            };
            if (release === undefined) release = answer;
            else answer();
        });
        const late = media.send(probed({ kind: "http", url: slow }, { body: "late" }));
        const gone = media.send(probed({ kind: "http", url: `${remote.url}/gone` }, { body: "gone" }));
        const after = media.send(textMessage(roomId, alice, "after"));
        const [first, second] = await Promise.all([late, gone, after]);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["late", "gone", "after"]);
        expect(shown(first.eventId)).to.deep.equal({
            msgtype: "m.file",
            body: "late",
            url: first.uploads[0]?.contentUri,
        });
        expect(shown(second.eventId)["msgtype"]).to.equal("m.file");
        // The transfer opens it again.
        expect((await first.uploads[0]?.done)?.state).to.equal("done");
        const error = await second.uploads[0]?.done.catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "SOURCE_NOT_FOUND" });
    });

    it("shows `describe` the first 64 KiB and takes what an event can hold from its answer", async () => {
        const seen: { length: number; known: KnownOfFile }[] = [];
        const media = await started({
            async describe(head, known) {
                expect(JPEG.subarray(0, head.length).equals(Buffer.from(head))).to.equal(true);
                seen.push({ length: head.length, known });
                const blurhash = { "xyz.amorgan.blurhash": "LEHV6nWB2yk8pyo0adR*.7kCMdnj" };
                return { w: 640.4, h: -1, duration: Number.NaN, ...blurhash, mimetype: "text/html" } as object;
            },
        });
        const sent = await media.send(probed(serve("/cat.jpg", { "content-type": "image/jpeg" })));
        await sent.uploads[0]?.done;
        expect(seen).to.deep.equal([
            { length: 65_536, known: { mimetype: "image/jpeg", size: JPEG.length, filename: "cat.jpg" } },
        ]);
        expect(shown(sent.eventId)["info"]).to.deep.equal({
            mimetype: "image/jpeg",
            size: JPEG.length,
            w: 640,
            "xyz.amorgan.blurhash": "LEHV6nWB2yk8pyo0adR*.7kCMdnj",
        });
        const { body } = await download(world.homeserver, sent.uploads[0]?.contentUri ?? "");
        expect(sha256(body)).to.equal(sha256(JPEG));
        expect(remote.requests).to.have.length(1);
    });

    it("survives a `describe` that throws, never answers, or gives nonsense, and a source that stalls before it", async () => {
        // Waited for to its end, and yet time enough for what comes at once.
        const timeLimits = { probeMs: 1000 };
        const answers: (() => unknown)[] = [
            () => Promise.reject(new Error("no")),
            () => new Promise(() => {}),
            () => Promise.resolve("nonsense"),
            () => {
                throw new Error("at once");
            },
        ];
        for (const answer of answers) {
            const media = await started({ timeLimits, describe: answer as () => Promise<object> });
            const sent = await media.send(probed(serve("/cat.jpg", { "content-type": "image/jpeg" })));
            await sent.uploads[0]?.done;
            expect(shown(sent.eventId)["info"]).to.deep.equal({ mimetype: "image/jpeg", size: JPEG.length });
            await media.close();
        }
        expect(remote.requests).to.have.length(answers.length);
        const heads: number[] = [];
        const media = await started({
            timeLimits,
            describe: async (head) => ({ w: heads.push(head.length) }),
        });
        let goOn: () => void = () => {};
        const url = remote.on("/stalling.jpg", (_request, response) => {
            response.writeHead(200, { "content-length": JPEG.length, "content-type": "image/jpeg" });
            response.write(JPEG.subarray(0, 1000));
            goOn = () => response.end(JPEG.subarray(1000));
        });
        const sent = await media.send(probed({ kind: "http", url }));
        expect(shown(sent.eventId)["info"]).to.include({ mimetype: "image/jpeg" });
        goOn();
        await sent.uploads[0]?.done;
        const { body } = await download(world.homeserver, sent.uploads[0]?.contentUri ?? "");
        expect(sha256(body)).to.equal(sha256(JPEG));
    });

    it("keeps at most 16 streams open; the others, and those of a former run, are opened again", async () => {
        let opened = 0;
        const sockets = new Set<unknown>();
        const url = remote.on("/cat.jpg", (request, response) => {
            opened++;
            sockets.add(request.socket);
            request.socket.once("close", () => sockets.delete(request.socket));
            response.writeHead(200, { "content-length": JPEG.length, "content-type": "image/jpeg" }).end(JPEG);
        });
        let release: () => void = () => {};
        const blocker = remote.on("/blocker", (_request, response) => {
            release = () => response.writeHead(200, { "content-length": 2 }).end(someBytes(2));
        });
        const media = await started({ concurrency: 1, smallFileConcurrency: 0 });
        const { uploads } = await media.send({
            ...probed({ kind: "http", url: blocker }),
            media: [{ at: ["url"], source: { kind: "http", url: blocker } }],
        });
        await until(() => remote.requests.length === 1);
        const sent = await Promise.all(Array.from({ length: 20 }, () => media.send(probed({ kind: "http", url }))));
        expect(opened).to.equal(20);
        await until(() => sockets.size <= 16);
        release();
        await uploads[0]?.done;
        for (const { uploads: own } of sent) await own[0]?.done;
        expect(opened).to.equal(24);

        await media.send({
            ...probed({ kind: "http", url: blocker }),
            media: [{ at: ["url"], source: { kind: "http", url: blocker } }],
        });
        const last = await media.send(probed({ kind: "http", url }));
        await media.close();
        await until(() => sockets.size === 0);
        remote.on("/blocker", (_request, response) =>
            response.writeHead(200, { "content-length": 2 }).end(someBytes(2)),
        );
        const next = await started();
        await until(async () => {
            for await (const { id, state } of next.jobs()) if (id === last.uploads[0]?.jobId) return state === "done";
            return false;
        });
        expect(opened).to.equal(26);
    });

    it("does not keep a stream whose message was not journaled", async () => {
        const media = await started({ maxSpoolBytes: 10 });
        const url = remote.on("/unfinished.jpg", (_request, response) => {
            response.writeHead(200, { "content-length": JPEG.length }).write(JPEG.subarray(0, 1000));
        });
        const source = { kind: "http", url } as const;
        const sockets: IncomingMessage["socket"][] = [];
        const message = probed(source);
        const buffer = { at: ["info", "thumbnail_url"], source: { kind: "buffer", data: someBytes(100) } } as const;
        const error = await media
            .send({ ...message, media: [...(message.media ?? []), buffer] })
            .catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "SPOOL_FULL" });
        sockets.push(...remote.requests.map(({ socket }) => socket));
        expect(sockets).to.have.length(1);
        await until(() => sockets.every(({ destroyed }) => destroyed));
    });

    it("is the same message when it comes again, whatever the probe says then", async () => {
        const warned: string[] = [];
        const silent = (): void => {};
        const media = await started({
            logger: { debug: silent, info: silent, warn: (text) => warned.push(text), error: silent },
        });
        const message = probed(serve("/cat.jpg", { "content-type": "image/jpeg" }));
        const first = await media.send(message);
        await first.uploads[0]?.done;
        expect((await media.send(message)).eventId).to.equal(first.eventId);
        expect(warned).to.deep.equal([]);
        expect(remote.requests).to.have.length(1);
    });

    it("keeps its source's limits: each file is one opening, in its turn", async () => {
        const starts: number[] = [];
        let running = 0;
        let most = 0;
        const open = async () => {
            starts.push(performance.now());
            most = Math.max(most, ++running);
            const stream = Readable.from([JPEG]);
            stream.once("close", () => running--);
            return { stream, size: JPEG.length, mimetype: "image/jpeg" };
        };
        const media = await started({
            connectors: { net: { open } },
            sourceLimits: { net: { concurrency: 1, perSecond: 10 } },
        });
        const send = (ref: number) => media.send(probed({ kind: "connector", connector: "net", ref }));
        const sent = await Promise.all(Array.from({ length: 8 }, (_, ref) => send(ref)));
        for (const { uploads } of sent) expect((await uploads[0]?.done)?.state).to.equal("done");
        const types = sent.map(({ eventId }) => shown(eventId)["msgtype"]);
        expect(types.filter((type) => type === "m.image")).to.have.length(1);
        expect(most).to.equal(1);
        expect(starts).to.have.length(8);
        // Seven pauses of 100 ms; a timer may be early by a millisecond.
        expect((starts.at(-1) ?? 0) - (starts[0] ?? 0)).to.be.at.least(7 * 99);
    });

    it("gives its place back with a stream that nobody will read", async () => {
        const file = serve("/cat.jpg", { "content-type": "image/jpeg" });
        const endless = remote.on("/unfinished.jpg", (_request, response) => {
            response.writeHead(200, { "content-length": JPEG.length }).write(JPEG.subarray(0, 100_000));
        });
        let look: () => void = () => {};
        const looked = new Promise<void>((resolve) => (look = resolve));
        const media = await started({
            maxSpoolBytes: 10,
            sourceLimits: { [remote.url]: { concurrency: 1 } },
            describe: () => looked.then(() => ({})),
        });
        const message = probed({ kind: "http", url: endless });
        const buffer = { at: ["info", "thumbnail_url"], source: { kind: "buffer", data: someBytes(100) } } as const;
        const refused = media
            .send({ ...message, media: [...(message.media ?? []), buffer] })
            .catch((reason: MediaError) => reason);
        await until(() => remote.requests.length === 1);
        const waiting = await media.send({ ...probed(file), roomId: await world.room(alice) });
        // Long enough for it to be held: the probe has the place.
        await sleep(50);
        expect(remote.requests).to.have.length(1);
        look();
        expect(await refused).to.include({ code: "SPOOL_FULL" });
        expect((await waiting.uploads[0]?.done)?.state).to.equal("done");
    });

    it("has its source left alone when it meets trouble there, which costs the file no try", async () => {
        const asked: number[] = [];
        const url = remote.on("/busy.jpg", (_request, response) => {
            asked.push(performance.now());
            if (asked.length === 1) return void response.writeHead(429, { "retry-after": "1" }).end();
            response.writeHead(200, { "content-length": JPEG.length, "content-type": "image/jpeg" }).end(JPEG);
        });
        const media = await started();
        const first = await media.send(probed({ kind: "http", url }));
        const second = await media.send(probed({ kind: "http", url }));
        for (const { uploads } of [first, second]) expect((await uploads[0]?.done)?.attempts).to.equal(0);
        expect(asked).to.have.length(3);
        expect((asked[1] ?? 0) - (asked[0] ?? 0)).to.be.at.least(999);
    });

    it("says nothing against a source that is only slower than the probe", async () => {
        const media = await started({ timeLimits: { probeMs: 1000 } });
        const sent = deferred();
        const url = remote.on("/slow.jpg", (_request, response) => {
            void sent.promise.then(() => response.writeHead(200, { "content-length": JPEG.length }).end(JPEG));
        });
        const late = await media.send(probed({ kind: "http", url }));
        sent.resolve();
        const next = await media.send(probed(serve("/cat.jpg", { "content-type": "image/jpeg" })));
        // A source in trouble would be left alone for a quarter of a second at least.
        expect([late, next].map(({ eventId }) => shown(eventId)["msgtype"])).to.deep.equal(["m.file", "m.image"]);
        for (const { uploads } of [late, next]) await uploads[0]?.done;
    });

    it("is no obstacle to a message before it that waits for a file of the same source", async () => {
        await closeScene({ world, remote });
        ({ world, remote, alice, roomId } = await openScene({ features: { create: false } }));
        const media = await started({ sourceLimits: { [remote.url]: { concurrency: 1 } } });
        const first = serve("/first.jpg", { "content-type": "image/jpeg" });
        const second = serve("/second.jpg", { "content-type": "image/jpeg" });
        const item = { probeHeaders: false };
        const sent = await Promise.all([
            media.send(probed(first, { body: "first" }, item)),
            media.send(probed(second)),
        ]);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["first", "second.jpg"]);
        expect(sent.map(({ eventId }) => shown(eventId)["msgtype"])[1]).to.equal("m.image");
    });

    it("INVALID_ARGUMENT for bytes that are handed over", async () => {
        const media = await started();
        const error = await media.send(probed({ kind: "buffer", data: JPEG })).catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "INVALID_ARGUMENT", field: "media[0].probeHeaders" });
    });
});
