import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { MediaError } from "../../src/errors.ts";
import { hasContent, hasUsableContent, type Wanted } from "../../src/matrix/download-probe.ts";
import { download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";

const PAGE = "<html><h1>We will be back soon</h1></html>";
const isMedia = ({ path }: { path: string }): boolean => path.includes("/upload/") || path.includes("/download/");
const isPut = ({ method }: { method: string }): boolean => method === "PUT";

describe("a page in place of the homeserver, with status 200", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    it("to upload and download alike makes no file done", async () => {
        const media = world.component();
        await media.start();
        const asked: string[] = [];
        world.homeserver.intercept((request) => {
            if (!isMedia(request) || asked.length === 4) return undefined;
            asked.push(request.method);
            return { status: 200, body: PAGE, headers: { "content-type": "text/html" } };
        });
        const bytes = someBytes(3000);
        const url = remote.file(bytes);
        const { uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const { state, contentUri = "" } = (await uploads[0]?.done) ?? {};
        expect(state).to.equal("done");
        expect((await download(world.homeserver, contentUri, 0)).body.equals(bytes)).to.equal(true);
        expect(asked).to.deep.equal(["PUT", "GET", "PUT", "GET"]);
    });

    it("is not what an earlier try left there: that counts, also where its source has changed since", async () => {
        const media = world.component();
        await media.start();
        let puts = 0;
        world.homeserver.intercept((request) =>
            isMedia(request) && isPut(request) && puts++ === 0 ? { drop: "after" } : undefined,
        );
        const former = someBytes(3000);
        let gets = 0;
        const url = remote.on("/changing", (_request, response) => response.end(gets++ === 0 ? former : someBytes(50)));
        const { uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const { state, contentUri = "" } = (await uploads[0]?.done) ?? {};
        expect([state, puts]).to.deep.equal(["done", 2]);
        expect((await download(world.homeserver, contentUri, 0)).body.equals(former)).to.equal(true);
    });
});

describe("the question whether a file is there", () => {
    let server: Server;
    let answer: { status: number; headers?: Record<string, string>; body?: string };
    const signal = new AbortController().signal;
    const access = () => {
        const { port } = server.address() as AddressInfo;
        return { homeserverUrl: `http://127.0.0.1:${port}`, accessToken: "t", userId: "@a:x" };
    };
    before(async () => {
        server = createServer((_request, response) => {
            response.writeHead(answer.status, answer.headers);
            // Without a length of Node.js' own.
            response.flushHeaders();
            response.end(answer.body ?? "12345");
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    });
    after(() => {
        server.closeAllConnections();
        server.close();
    });

    async function asked(given: typeof answer, wanted: Wanted, ask: typeof hasUsableContent = hasContent) {
        answer = given;
        return ask(access(), "mxc://x/y", wanted, signal).catch((error: unknown) => error as MediaError);
    }
    const of = (status: number, headers: Record<string, string> = {}, body?: string) =>
        body === undefined ? { status, headers } : { status, headers, body };
    const length = { "content-length": "5" };
    const html = { "content-type": "text/html; charset=utf-8" };
    const invalid = { code: "HOMESERVER_ANSWER_INVALID", retryable: true };

    it("is answered by the file: what has another length is none, nor is a page where none was uploaded", async () => {
        for (const wanted of [{}, { size: 5 }, { size: 5, mimetype: "image/jpeg" }, { mimetype: "image/jpeg" }]) {
            expect(await asked(of(200, length), wanted)).to.equal(true);
            expect(await asked(of(200), wanted), "no length").to.equal(true);
        }
        expect(await asked(of(200, length), { size: 6 })).to.include(invalid);
        expect(await asked(of(200, length), { size: 0 })).to.include(invalid);
        const encoded = { ...length, "content-encoding": "gzip" };
        expect(await asked(of(200, encoded), { size: 6 }), "another length on the way").to.equal(true);
        expect(await asked(of(200, html), { size: 6, mimetype: "image/jpeg" })).to.include(invalid);
        expect(await asked(of(200, html), { mimetype: "image/jpeg" })).to.include(invalid);
        expect(await asked(of(200, html), { mimetype: "text/html" }), "a page that was uploaded").to.equal(true);
        expect(await asked(of(200, html), {}), "nobody knows").to.equal(true);
    });

    it("is answered with no by the homeserver alone, whose gateway says neither yes nor no", async () => {
        const notYet = JSON.stringify({ errcode: "M_NOT_YET_UPLOADED" });
        expect(await asked(of(504, {}, notYet), {})).to.equal(false);
        const failing = { code: "HOMESERVER_FAILING", status: 504, retryable: true, retryAfterMs: 7000 };
        expect(await asked(of(504, { "retry-after": "7" }, "<html></html>"), {})).to.include(failing);
        expect(await asked(of(504, { "retry-after": "7" }), {}, hasUsableContent)).to.include(failing);
    });

    it("is asked again where a firewall has refused it, and given up where the homeserver has", async () => {
        expect(await asked(of(403, html, PAGE), {}, hasUsableContent)).to.include({ code: "FORBIDDEN" });
        const forbidden = JSON.stringify({ errcode: "M_FORBIDDEN" });
        expect(await asked(of(403, {}, forbidden), {}, hasUsableContent)).to.equal(false);
    });
});
