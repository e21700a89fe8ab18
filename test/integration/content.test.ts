import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { expect } from "chai";
import type { BridgeMedia, MediaError, MediaItem, MediaSource, RemoteMessage } from "../../src/index.ts";
import { bodies, download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const JPEG = Buffer.concat([Buffer.from("FFD8FFE000104A464946000101", "hex"), someBytes(600_000)]);
const ZIP = Buffer.concat([Buffer.from("504B030414000000080000", "hex"), someBytes(600_000)]);

describe("a file's content", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let media: BridgeMedia;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
        media = world.component({
            maxAttempts: 2,
            connectors: {
                pieces: {
                    open: async (ref) => ({
                        stream: Readable.from([JPEG.subarray(0, 1), JPEG.subarray(1)]),
                        size: Number(ref),
                    }),
                },
            },
        });
        await media.start();
    });
    afterEach(() => closeScene({ world, remote }));

    /** Sends it as a photo; resolves with how its transfer ended, and whether the homeserver has anything of it. */
    async function sent(source: MediaSource, item: Partial<MediaItem> = {}) {
        const { uploads } = await media.send(photoMessage(roomId, alice, source, {}, item));
        const [upload] = uploads;
        const code = await upload?.done.then(
            () => "done",
            (error: MediaError) => error.code,
        );
        const { status, body } = await download(world.homeserver, upload?.contentUri ?? "", 0);
        return { code, status, body };
    }

    /** The bytes in small writes, so that the first chunk that comes tells nothing. */
    function dripped(path: string, bytes: Buffer): MediaSource {
        const url = remote.on(path, (_request, response) => {
            response.writeHead(200, { "content-type": "image/jpeg", "content-length": bytes.length });
            const drip = (from: number): void => {
                if (from === 16) response.end(bytes.subarray(from));
                else response.write(bytes.subarray(from, from + 1), () => setImmediate(drip, from + 1));
            };
            drip(0);
        });
        return { kind: "http", url };
    }

    it("that is a sentence, or nothing, never becomes a picture", async () => {
        for (const text of ["This link has expired.", ""]) {
            for (const headers of [{ "content-length": text.length }, {}]) {
                const url = remote.on("/expired", (_request, response) => {
                    response.writeHead(200, { "content-type": "text/plain", ...headers }).end(text);
                });
                const { code, status } = await sent({ kind: "http", url });
                const expected = text === "" ? "SOURCE_LENGTH_MISMATCH" : "SOURCE_TYPE_MISMATCH";
                expect({ code, status }, text).to.deep.equal({ code: expected, status: 504 });
                const content = { msgtype: "m.file", body: "note.txt" };
                const { uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url }, { content }));
                expect(await uploads[0]?.done).to.include({ state: "done", size: text.length });
            }
        }
    });

    it("that is nothing although its hash is known is tried again", async () => {
        let asked = 0;
        const url = remote.on("/late", (_request, response) => void response.end(asked++ === 0 ? undefined : JPEG));
        const { code, body } = await sent({ kind: "http", url }, { sha256: sha256(JPEG) });
        expect(code).to.equal("done");
        expect(body.equals(JPEG)).to.equal(true);
    });

    it("that is a page never becomes what its message's kind says, also where that names no type", async () => {
        const page = remote.on("/page", (_request, response) => response.end("<!DOCTYPE html><p>Sorry"));
        const photo = remote.on("/photo", (_request, response) => response.end(JPEG));
        const code = async (url: string, message: Partial<RemoteMessage>, at: string[] = ["url"]): Promise<string> => {
            const item = { at, source: { kind: "http", url } } as const;
            const id = `${url} ${at.join()} ${JSON.stringify(message)}`;
            const sent = await media.send({ id, roomId, sender: alice, content: {}, media: [item], ...message });
            const done = sent.uploads[0]?.done.then(() => "done");
            return (await done?.catch((error: MediaError) => error.code)) ?? "";
        };
        for (const msgtype of ["m.image", "m.video", "m.audio"])
            expect(await code(page, { content: { msgtype, body: "x" } }), msgtype).to.equal("SOURCE_TYPE_MISMATCH");
        // Types that say nothing, or that it is a page: what the message promises counts.
        for (const mimetype of [
            "application/octet-stream",
            "binary/octet-stream",
            "text/html; charset=utf-8",
            "jpg",
            "",
        ])
            expect(
                await code(page, { content: { msgtype: "m.image", body: "x", info: { mimetype } } }),
                mimetype,
            ).to.equal("SOURCE_TYPE_MISMATCH");
        const asBytes = { msgtype: "m.image", body: "x", info: { mimetype: "application/octet-stream" } };
        expect(await code(photo, { content: asBytes })).to.equal("done");
        const animated = { body: "x", info: { mimetype: "application/x-tgsticker" } };
        expect(await code(page, { eventType: "m.sticker", content: animated }), "a type of its own").to.equal("done");
        const sticker = { eventType: "m.sticker", content: { body: "x", info: {} } };
        const clip = { content: { msgtype: "m.file", body: "x" } };
        const gallery = {
            content: { msgtype: "m.gallery", body: "x", itemtypes: [{ itemtype: "m.image", body: "x" }] },
        };
        const found = [
            await code(page, sticker),
            await code(page, clip, ["info", "thumbnail_url"]),
            await code(page, gallery, ["itemtypes", "0", "url"]),
            await code(photo, { content: { msgtype: "m.video", body: "x" } }),
            await code(page, clip),
            await code(photo, { content: { msgtype: "m.image", body: "x" } }),
            await code(photo, { content: { msgtype: "org.example.anything", body: "x" } }),
        ];
        expect(found).to.deep.equal([...Array<string>(4).fill("SOURCE_TYPE_MISMATCH"), "done", "done", "done"]);
    });

    it("is asked for as it is, not compressed", async () => {
        await sent({ kind: "http", url: remote.file(JPEG) });
        expect(remote.requests[0]?.headers["accept-encoding"]).to.equal("identity");
    });

    it("whose message names a type that no header can carry arrives all the same", async () => {
        const content = { msgtype: "m.file", body: "x", info: { mimetype: "картинка" } };
        const source = { kind: "buffer", data: JPEG } as const;
        const { uploads } = await media.send({
            id: "x",
            roomId,
            sender: alice,
            content,
            media: [{ at: ["url"], source }],
        });
        expect(await uploads[0]?.done).to.include({ state: "done" });
    });

    it("whose source names a type without an end arrives all the same, as what was promised or as bytes", async () => {
        const url = remote.on("/long-type", (_request, response) => {
            const type = `image/jpeg; of=${"x".repeat(5000)}`;
            response.writeHead(200, { "content-type": type, "content-length": JPEG.length }).end(JPEG);
        });
        for (const [info, type] of [
            [{ mimetype: "image/jpeg" }, "image/jpeg"],
            [{}, "application/octet-stream"],
        ] as const) {
            const content = { msgtype: "m.image", body: "x", info };
            const { uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url }, { content }));
            await uploads[0]?.done;
            expect(world.homeserver.media(uploads[0]?.contentUri ?? "")?.contentType).to.equal(type);
        }
    });

    it("that is another kind of file than promised never becomes one, however its bytes come", async () => {
        const page = Buffer.from(`\n\n<!DOCTYPE html><p>${"Sorry ".repeat(1000)}`);
        for (const [path, bytes] of [
            ["/zip", ZIP],
            ["/page", page],
            ["/short-page", page.subarray(0, 30)],
        ] as const) {
            expect(await sent(dripped(path, bytes)), path).to.include({ code: "SOURCE_TYPE_MISMATCH", status: 504 });
        }
        const slow = remote.on("/slow", (_request, response) => {
            response.writeHead(200, { "content-length": page.length });
            const timer = setInterval(() => response.write(page.subarray(0, 100)), 100);
            response.once("close", () => clearInterval(timer));
        });
        expect(await sent({ kind: "http", url: slow })).to.include({ code: "SOURCE_TYPE_MISMATCH", status: 504 });
        const chunked = remote.on("/chunked", (_request, response) => response.end(ZIP));
        expect(await sent({ kind: "http", url: chunked })).to.include({ code: "SOURCE_TYPE_MISMATCH", status: 504 });
        expect(await sent({ kind: "buffer", data: ZIP })).to.include({ code: "SOURCE_TYPE_MISMATCH", status: 504 });
        expect(await sent(dripped("/photo", JPEG), { mimetype: "image/png" })).to.include({
            code: "done",
            status: 200,
        });
        expect(await sent(dripped("/other", ZIP), { mimetype: "application/zip" })).to.include({ code: "done" });
    });

    it("keeps the checksum given with it, from every kind of source", async () => {
        const path = join(world.dataDir, "photo.jpg");
        await writeFile(path, JPEG);
        const sources: MediaSource[] = [
            { kind: "http", url: remote.file(JPEG) },
            { kind: "http", url: remote.on("/chunked", (_request, response) => response.end(JPEG)) },
            { kind: "file", path },
            { kind: "connector", connector: "pieces", ref: JPEG.length },
            { kind: "buffer", data: JPEG },
            { kind: "stream", stream: Readable.from([JPEG]) },
        ];
        for (const source of sources) {
            const { code, body } = await sent(source, { sha256: sha256(JPEG).toUpperCase() });
            expect(code).to.equal("done");
            expect(body.equals(JPEG)).to.equal(true);
        }
        for (const source of sources.slice(0, 4)) {
            const wrong = await sent(source, { sha256: sha256(ZIP) });
            expect(wrong).to.include({ code: "SOURCE_CHECKSUM_MISMATCH", status: 504 });
        }
        const { done } = await media.upload(
            { kind: "file", path },
            { userId: alice, mimetype: "image/jpeg", sha256: sha256(ZIP) },
        );
        expect(await done.catch((error: MediaError) => error.code)).to.equal("SOURCE_CHECKSUM_MISMATCH");
        await until(async () => (await readdir(join(world.dataDir, "spool"))).length === 0);
    });

    it("that is handed over as a stream which breaks is refused: the stream's trouble, not the disk's", async () => {
        for (const checked of [{}, { sha256: sha256(JPEG) }]) {
            const stream = new PassThrough();
            stream.write(JPEG);
            const sending = media.send(photoMessage(roomId, alice, { kind: "stream", stream }, {}, checked));
            stream.destroy(new Error("the network broke"));
            const error = await sending.catch((reason: MediaError) => reason);
            expect(error).to.include({ code: "SOURCE_UNAVAILABLE" });
            expect(String((error as MediaError).cause)).to.include("the network broke");
        }
        expect(await readdir(join(world.dataDir, "spool"))).to.deep.equal([]);
        expect(bodies(world.homeserver, roomId)).to.deep.equal([]);
    });

    it("that is handed over with another checksum is refused before anything is journaled", async () => {
        for (const source of [
            { kind: "buffer", data: JPEG },
            { kind: "stream", stream: Readable.from([JPEG]) },
        ] as const) {
            const message = photoMessage(roomId, alice, source, {}, { sha256: sha256(ZIP) });
            const error = await media.send(message).catch((reason: MediaError) => reason);
            expect(error).to.include({ code: "SOURCE_CHECKSUM_MISMATCH" });
        }
        expect(await readdir(join(world.dataDir, "spool"))).to.deep.equal([]);
        for await (const job of media.jobs()) expect.fail(`there is a job: ${job.id}`);
    });

    it("that was cut is fetched again until its checksum is right", async () => {
        let answers = 0;
        const url = remote.on("/cut", (_request, response) =>
            response.end(answers++ === 0 ? JPEG.subarray(0, 1000) : JPEG),
        );
        expect(await sent({ kind: "http", url }, { sha256: sha256(JPEG) })).to.include({ code: "done", status: 200 });
        expect(answers).to.equal(2);
    });

    it("INVALID_ARGUMENT for what is no checksum", async () => {
        for (const wrong of ["", "abc", "z".repeat(64), "a".repeat(65)]) {
            const message = photoMessage(roomId, alice, { kind: "buffer", data: JPEG }, {}, { sha256: wrong });
            const error = await media.send(message).catch((reason: MediaError) => reason);
            expect(error).to.include({ code: "INVALID_ARGUMENT", field: "media[0].sha256" });
        }
    });
});
