import { createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import type { BridgeMediaOptions, MediaError } from "../../src/index.ts";
import { silentLogger } from "../../src/logger.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { UploadLimits } from "../../src/uploads/upload-limits.ts";
import { download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";

describe("a source's limits of time and size", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    /** How the one try of a transfer ends, and after how long. */
    async function ended(url: string, options: Partial<BridgeMediaOptions>) {
        const media = world.component({ maxAttempts: 1, ...options });
        await media.start();
        const began = performance.now();
        const { uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const code = await uploads[0]?.done.then(
            () => "done",
            (error: MediaError) => error.code,
        );
        const ms = performance.now() - began;
        await media.close();
        const { status } = await download(world.homeserver, uploads[0]?.contentUri ?? "", 0);
        return { code, ms, status };
    }

    it("headers that do not come, or come a byte at a time, end within headersMs", async () => {
        const silent = remote.on("/silent", () => {});
        const never = await ended(silent, { timeLimits: { headersMs: 200 } });
        expect(never).to.include({ code: "SOURCE_TIMEOUT", status: 504 });
        expect(never.ms).to.be.within(150, 3000);

        const sockets = new Set<Socket>();
        const slow = createServer((socket) => {
            sockets.add(socket);
            socket.on("error", () => {});
            const head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let at = 0;
            const timer = setInterval(() => socket.write(head[at++] ?? ""), 30);
            socket.once("close", () => clearInterval(timer));
        });
        await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
        const url = `http://127.0.0.1:${(slow.address() as AddressInfo).port}/`;
        const dripping = await ended(url, { timeLimits: { headersMs: 300 } });
        expect(dripping).to.include({ code: "SOURCE_TIMEOUT", status: 504 });
        expect(dripping.ms).to.be.within(250, 3000);
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => slow.close(resolve));
    });

    it("a body that stalls ends within idleMs, with and without a length", async () => {
        for (const headers of [{ "content-length": 1000 }, {}]) {
            const url = remote.on("/stalling", (_request, response) => {
                response.writeHead(200, headers);
                response.write(someBytes(500));
            });
            const { code, ms, status } = await ended(url, { timeLimits: { idleMs: 200 } });
            expect({ code, status }).to.deep.equal({ code: "SOURCE_TIMEOUT", status: 504 });
            expect(ms).to.be.within(150, 3000);
        }
    });

    it("a source that is slow and never silent comes through: its bytes are passed on before the upload seems idle", async () => {
        const url = remote.on("/slow", (_request, response) => {
            response.writeHead(200, { "content-length": 30_000 });
            let left = 30;
            const timer = setInterval(() => (left-- > 0 ? response.write(someBytes(1000)) : response.end()), 100);
            response.once("close", () => clearInterval(timer));
        });
        expect(await ended(url, { timeLimits: { idleMs: 2000 } })).to.include({ code: "done", status: 200 });
    });

    it("a body that drips for ever ends within totalMs", async () => {
        for (const headers of [{ "content-length": 2 ** 20 }, {}]) {
            const url = remote.on("/dripping", (_request, response) => {
                response.writeHead(200, headers);
                const timer = setInterval(() => response.write("x"), 20);
                response.once("close", () => clearInterval(timer));
            });
            const { code, ms, status } = await ended(url, { timeLimits: { idleMs: 10_000, totalMs: 400 } });
            expect({ code, status }).to.deep.equal({ code: "TRANSFER_TIMEOUT", status: 504 });
            expect(ms).to.be.within(350, 3000);
        }
    });

    it("the bytes are counted on the wire, against the option and against what the homeserver allows", async () => {
        const bytes = someBytes(200_000);
        const chunked = remote.on("/chunked", (_request, response) => {
            response.writeHead(200);
            response.write(bytes.subarray(0, 100_000));
            response.end(bytes.subarray(100_000));
        });
        expect(await ended(chunked, { maxFileBytes: 199_999 })).to.include({ code: "FILE_TOO_LARGE", status: 504 });
        expect(await ended(chunked, { maxFileBytes: 200_000 })).to.include({ code: "done", status: 200 });
        expect(await ended(remote.file(bytes), { maxFileBytes: 199_999 })).to.include({ code: "FILE_TOO_LARGE" });
        const endless = remote.on("/endless", (_request, response) => {
            const more = (): void => {
                if (!response.destroyed) response.write(Buffer.alloc(256 * 1024), more);
            };
            response.writeHead(200);
            more();
        });
        // The embedded homeserver allows 64 MiB.
        expect(await ended(endless, {})).to.include({ code: "FILE_TOO_LARGE", status: 504 });
    });

    it("what the homeserver allows is asked as whoever uploads", async () => {
        world.homeserver.intercept(({ path, user }) =>
            path.endsWith("/media/config")
                ? { status: 200, body: { "m.upload.size": user === alice ? 1000 : 2000 } }
                : undefined,
        );
        const url = remote.file(someBytes(1500));
        expect((await ended(url, {})).code).to.equal("FILE_TOO_LARGE");
        expect((await ended(url, { uploadAs: "bot" })).code).to.equal("done");
    });

    it("a homeserver that does not say what it allows is not asked again by each file", async () => {
        world.homeserver.intercept(({ path }) =>
            path.endsWith("/media/config") ? { status: 503, body: {} } : undefined,
        );
        const asked = (): number =>
            world.homeserver.requests.filter(({ path }) => path.endsWith("/media/config")).length;
        const limits = new UploadLimits(new ActingUsers(world.bridge), 5000, silentLogger);
        const of = (): Promise<number> => limits.of(alice, new AbortController().signal);
        const now = performance.now.bind(performance);
        try {
            expect([await of(), await of()]).to.deep.equal([5000, 5000]);
            expect(asked()).to.equal(1);
            performance.now = () => now() + 61_000;
            await of();
            expect(asked()).to.equal(2);
        } finally {
            performance.now = now;
        }
    });

    it("what the homeserver allows is asked once an hour for each user, and again when it refused a size", async () => {
        let size = 1000;
        world.homeserver.intercept(({ path }) =>
            path.endsWith("/media/config") ? { status: 200, body: { "m.upload.size": size } } : undefined,
        );
        const asked = (): number =>
            world.homeserver.requests.filter(({ path }) => path.endsWith("/media/config")).length;
        const limits = new UploadLimits(new ActingUsers(world.bridge), 5000, silentLogger);
        const of = (user: string): Promise<number> => limits.of(user, new AbortController().signal);
        const now = performance.now.bind(performance);
        try {
            expect([await of(alice), await of(alice), await of(world.bot)]).to.deep.equal([1000, 1000, 1000]);
            expect(asked()).to.equal(2);
            size = 9000;
            performance.now = () => now() + 61 * 60_000;
            expect(await of(alice)).to.equal(5000);
            size = 2000;
            expect(await of(alice)).to.equal(5000);
            limits.forget(alice);
            expect(await of(alice)).to.equal(2000);
            expect(asked()).to.equal(4);
        } finally {
            performance.now = now;
        }
    });
});
