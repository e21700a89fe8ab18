import type { IncomingMessage, ServerResponse } from "node:http";
import { brotliCompressSync, constants, deflateSync, gzipSync } from "node:zlib";
import { expect } from "chai";
import type { BridgeMediaOptions, MediaError, MediaItem } from "../../src/index.ts";
import { download, messages } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

/** Text that compresses, and is longer than any buffer on its way. */
const TEXT = Buffer.from(Array.from({ length: 60_000 }, (_, line) => `${line}: ${line * 7919}\n`).join(""));

describe("a source that answers with a Content-Encoding nobody asked for", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    function serve(
        body: Buffer,
        encoding: string,
        { path = "/notes.txt", headers = {} }: { path?: string; headers?: Record<string, string> } = {},
    ): string {
        return remote.on(path, (_request: IncomingMessage, response: ServerResponse) => {
            response.writeHead(200, {
                "content-type": "text/plain",
                "content-encoding": encoding,
                "content-length": body.length,
                etag: '"1"',
                ...headers,
            });
            response.end(body);
        });
    }

    async function send(url: string, item: Partial<MediaItem> = {}, options: Partial<BridgeMediaOptions> = {}) {
        const media = world.component({ maxAttempts: 1, ...options });
        await media.start();
        const content = { msgtype: "m.file", body: "notes.txt" };
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }, { content }, item));
        const end = await sent.uploads[0]?.done.then(
            ({ size }) => ({ code: "done", size, detail: "" }),
            ({ code, detail }: MediaError) => ({ code, size: undefined, detail: String(detail) }),
        );
        if (end === undefined) throw new Error("no upload");
        const found = await download(world.homeserver, sent.uploads[0]?.contentUri ?? "", 0);
        await media.close();
        return { ...end, sent, status: found.status, body: found.body };
    }

    const encoders = {
        gzip: gzipSync,
        "x-gzip": gzipSync,
        GZIP: gzipSync,
        deflate: deflateSync,
        br: (text: Buffer) => brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
        "aws-chunked, gzip": gzipSync,
    };
    for (const [encoding, encode] of Object.entries(encoders)) {
        it(`${encoding}: the file is what was encoded`, async () => {
            const { code, size, body } = await send(serve(encode(TEXT), encoding), { sha256: sha256(TEXT) });
            expect({ code, size }).to.deep.equal({ code: "done", size: TEXT.length });
            expect(body.equals(TEXT)).to.equal(true);
        });
    }

    for (const encoding of ["identity", "utf-8", "aws-chunked"]) {
        it(`${encoding} is none: the bytes are passed on with their length`, async () => {
            const { body } = await send(serve(TEXT, encoding), {}, { maxSpoolBytes: 1 });
            expect(body.equals(TEXT)).to.equal(true);
        });
    }

    it("an archive by its name or type stays one", async () => {
        const archive = gzipSync(TEXT);
        const byName = await send(serve(archive, "x-gzip", { path: "/notes.tar.gz" }));
        expect(byName.body.equals(archive)).to.equal(true);
        const byType = await send(serve(archive, "gzip", { headers: { "content-type": "application/gzip" } }));
        expect(byType.body.equals(archive)).to.equal(true);
    });

    it("an encoding that is not known here, or several, is refused", async () => {
        for (const encoding of ["zstd", "gzip, br", "constructor"]) {
            const { code, detail, status } = await send(serve(TEXT, encoding));
            expect({ code, status }).to.deep.equal({ code: "SOURCE_REFUSED", status: 504 });
            expect(detail).to.contain(encoding);
        }
    });

    it("a probed one is decoded too: describe() sees the file, and there is one connection", async () => {
        let head = Buffer.alloc(0);
        const describe = async (bytes: Uint8Array) => {
            head = Buffer.from(bytes);
            return {};
        };
        const { body, sent } = await send(serve(gzipSync(TEXT), "gzip"), { probeHeaders: true }, { describe });
        expect(body.equals(TEXT)).to.equal(true);
        expect(head.length).to.be.above(1000);
        expect(head.equals(TEXT.subarray(0, head.length))).to.equal(true);
        expect(remote.requests).to.have.length(1);
        const event = messages(world.homeserver, roomId).find(({ event_id }) => event_id === sent.eventId);
        expect((event?.content["info"] as { size?: number } | undefined)?.size, "the encoded length").to.equal(
            undefined,
        );
    });

    it("the limit holds for what comes out: a bomb is cut off at it", async () => {
        const bomb = gzipSync(Buffer.alloc(64 * 2 ** 20));
        const { code, status } = await send(serve(bomb, "gzip"), {}, { maxFileBytes: 2 ** 20 });
        expect({ code, status }).to.deep.equal({ code: "FILE_TOO_LARGE", status: 504 });
        const { code: spooled } = await send(serve(bomb, "gzip"), {}, { maxSpoolBytes: 2 ** 20 });
        expect(spooled).to.equal("FILE_TOO_LARGE");
    });

    it("what is cut or no such encoding never becomes a file", async () => {
        const encoded = gzipSync(TEXT);
        const cut = await send(serve(encoded.subarray(0, encoded.length / 2), "gzip"));
        expect(cut).to.include({ code: "SOURCE_LENGTH_MISMATCH", status: 504 });
        for (const encoding of ["gzip", "br", "deflate"]) {
            const wrong = await send(serve(Buffer.from("plain text all the same"), encoding));
            expect(wrong, encoding).to.include({ code: "SOURCE_REFUSED", status: 504 });
        }
    });

    it("a connection that breaks midway begins anew: half an encoding cannot be resumed", async () => {
        const encoded = gzipSync(TEXT);
        const ranges: (string | undefined)[] = [];
        const url = remote.on("/notes.txt", ({ headers }, response) => {
            ranges.push(headers.range);
            response.writeHead(200, { "content-encoding": "gzip", "content-length": encoded.length, etag: '"1"' });
            if (ranges.length > 1) return void response.end(encoded);
            response.write(encoded.subarray(0, encoded.length / 2), () => response.destroy());
        });
        const { code, body } = await send(url, {}, { maxAttempts: 2 });
        expect(code).to.equal("done");
        expect(body.equals(TEXT)).to.equal(true);
        expect(ranges).to.deep.equal([undefined, undefined]);
    });

    it("one that stalls ends in time, and a cancelled one has its connection closed", async () => {
        const closed: string[] = [];
        const stall = (path: string): string =>
            remote.on(path, (_request, response) => {
                response.writeHead(200, { "content-encoding": "gzip" });
                response.write(gzipSync(someBytes(300_000)).subarray(0, 200_000));
                response.once("close", () => closed.push(path));
            });
        const stalled = await send(stall("/stalled"), {}, { timeLimits: { idleMs: 300 } });
        expect(stalled).to.include({ code: "SOURCE_TIMEOUT", status: 504 });
        await until(() => closed.length === 1);

        const media = world.component();
        await media.start();
        for (const probeHeaders of [false, true]) {
            const before = closed.length;
            const url = stall("/cancelled");
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }, {}, { probeHeaders }));
            await until(() => remote.requests.length === before + 1);
            await media.cancel(sent.uploads[0]?.jobId ?? "");
            await until(() => closed.length === before + 1);
            const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
            expect(error).to.include({ code: "CANCELLED" });
        }
    });
});
