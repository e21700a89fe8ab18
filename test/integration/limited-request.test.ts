import { getEventListeners, once } from "node:events";
import { Agent as HttpAgent, createServer as createHttp, type Server } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { type AddressInfo, createServer, type Socket } from "node:net";
import type { Readable } from "node:stream";
import { expect } from "chai";
import type { MediaError } from "../../src/index.ts";
import { EVENT_REFUSALS } from "../../src/matrix/answer.ts";
import { matrixRequest } from "../../src/matrix/request.ts";
import { addressPolicy } from "../../src/uploads/sources/address-guard.ts";
import { HttpSource } from "../../src/uploads/sources/http.ts";
import { putStream, type PutRequest } from "../../src/uploads/targets/put-stream.ts";
import { type Remote, someBytes, startRemote } from "../support/remote.ts";
import { until } from "../support/until.ts";

const LIMITS = { connectMs: 5000, headersMs: 5000, idleMs: 5000, totalMs: 20_000 };
const code = (promise: Promise<unknown>): Promise<string> =>
    promise.then(
        () => "none",
        (error: MediaError) => error.code,
    );

describe("the requests that files come and go with", () => {
    let remote: Remote;
    let close: (() => Promise<unknown>)[] = [];
    beforeEach(async () => {
        remote = await startRemote();
        close = [() => remote.close()];
    });
    afterEach(async () => {
        for (const end of close) await end();
    });

    function source(limits = LIMITS): HttpSource {
        const http = new HttpSource(addressPolicy(true), limits);
        close.unshift(async () => http.close());
        return http;
    }

    async function listening(server: Server | ReturnType<typeof createServer>): Promise<number> {
        const sockets = new Set<Socket>();
        server.on("connection", (socket: Socket) => {
            sockets.add(socket);
            socket.on("error", () => {});
        });
        await once(server.listen(0, "127.0.0.1"), "listening");
        close.unshift(async () => {
            for (const socket of sockets) socket.destroy();
            await new Promise((resolve) => server.close(resolve));
        });
        return (server.address() as AddressInfo).port;
    }

    /** Answers with another protocol. */
    function switching() {
        return createServer((socket) => {
            socket.once("data", () => socket.write("HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"));
        });
    }

    async function read(http: HttpSource, url: string, signal = new AbortController().signal): Promise<number> {
        const { stream } = await http.open({ kind: "http", url }, signal);
        let bytes = 0;
        for await (const chunk of stream) bytes += chunk.length;
        return bytes;
    }

    it("a TLS handshake that does not come ends within connectMs", async () => {
        const port = await listening(createServer(() => {}));
        const http = source({ ...LIMITS, connectMs: 200 });
        const began = performance.now();
        expect(await code(read(http, `https://127.0.0.1:${port}/`))).to.equal("SOURCE_TIMEOUT");
        expect(performance.now() - began).to.be.within(150, 3000);
    });

    it("what ends well leaves nothing behind at its signal, and its connection to the next", async () => {
        const { signal } = new AbortController();
        const ports = new Set<number | undefined>();
        const bytes = someBytes(100_000);
        const url = remote.on("/file", (request, response) => {
            ports.add(request.socket.remotePort);
            response.end(bytes);
        });
        const moved = remote.on("/moved", (_request, response) =>
            response.writeHead(302, { location: url }).end("there"),
        );
        const http = source();
        for (let i = 0; i < 5; i++) expect(await read(http, moved, signal)).to.equal(bytes.length);
        // The page of a redirect is still being read when the next request begins.
        expect(ports.size).to.be.at.most(2);
        await until(() => getEventListeners(signal, "abort").length === 0);
    });

    it("an answer that changes the protocol is a broken connection, not silence", async () => {
        const port = await listening(switching());
        const url = `http://127.0.0.1:${port}`;
        expect(await code(read(source(), url))).to.equal("SOURCE_UNAVAILABLE");
        const access = { homeserverUrl: url, accessToken: "t", userId: "@a:x" };
        const asked = matrixRequest(access, { method: "GET", path: "/", refusals: EVENT_REFUSALS });
        expect(await code(asked)).to.equal("HOMESERVER_UNREACHABLE");
    });

    it("a file that nobody reads on is not asked for again", async () => {
        const url = remote.on("/stalling", (_request, response) => {
            response.writeHead(200, { "content-length": 1000, etag: '"1"', "accept-ranges": "bytes" });
            response.write(someBytes(500));
        });
        const { stream } = await source().open({ kind: "http", url }, new AbortController().signal);
        const chunks = stream[Symbol.asyncIterator]();
        await chunks.next();
        const next = chunks.next();
        stream.destroy();
        expect(
            await next.then(
                () => "more",
                () => "over",
            ),
        ).to.equal("over");
        expect(remote.requests).to.have.length(1);
    });

    it("what went wrong while nobody read is told to whoever reads then", async () => {
        const url = remote.on("/stalling", (_request, response) => {
            response.writeHead(200, { "content-length": 1000 });
            response.write(someBytes(500));
        });
        const { stream } = await source({ ...LIMITS, idleMs: 200 }).open(
            { kind: "http", url },
            new AbortController().signal,
        );
        await until(() => (stream as Readable).destroyed);
        const reading = async (): Promise<void> => {
            for await (const chunk of stream) expect(chunk.length).to.be.above(0);
        };
        expect(await code(reading())).to.equal("SOURCE_TIMEOUT");
    });

    it("a header that cannot be sent is an error of the table", async () => {
        const url = remote.file(someBytes(10));
        const opened = source().open(
            { kind: "http", url, headers: { "x-key": "\u0100" } },
            new AbortController().signal,
        );
        expect(await code(opened)).to.equal("SOURCE_UNAVAILABLE");
    });

    it("a redirect with a page without an end is not read on", async () => {
        let written = 0;
        let isClosed = false;
        const to = remote.file(someBytes(10));
        const endless = remote.on("/endless", (_request, response) => {
            const more = (): void => {
                if (response.destroyed) return;
                written += 2 ** 16;
                response.write(Buffer.alloc(2 ** 16), more);
            };
            response.writeHead(302, { location: to });
            response.once("close", () => (isClosed = true));
            more();
        });
        expect(await read(source(), endless)).to.equal(10);
        await until(() => isClosed);
        expect(written).to.be.below(64 * 2 ** 20);
    });

    describe("an upload", () => {
        const SIZE = 8 * 2 ** 20;
        let isLetGo: boolean;
        const agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent() };
        after(() => agents.http.destroy());

        async function* body(pieces: number, length = SIZE / 8): AsyncGenerator<Uint8Array> {
            isLetGo = false;
            try {
                for (let i = 0; i < pieces; i++) {
                    yield Buffer.alloc(length);
                    await new Promise((resolve) => setImmediate(resolve));
                }
            } finally {
                isLetGo = true;
            }
        }

        function put(port: number, changes: Partial<PutRequest> = {}) {
            return putStream({
                method: "PUT",
                url: new URL(`http://127.0.0.1:${port}/`),
                headers: {},
                size: SIZE,
                body: body(8),
                agents,
                limits: LIMITS,
                signal: new AbortController().signal,
                ...changes,
            });
        }

        it("that is refused before its end is left at once, and the refusal told", async () => {
            const refusal = `{"errcode":"M_TOO_LARGE"}`;
            const port = await listening(
                createServer((socket) => {
                    socket.once("data", () => {
                        socket.pause();
                        socket.write(`HTTP/1.1 413 x\r\nContent-Length: ${refusal.length}\r\n\r\n${refusal}`);
                    });
                }),
            );
            for (const bytes of [body(8), body(1, SIZE)]) {
                const answer = await put(port, { body: bytes });
                expect(answer).to.deep.include({ status: 413, body: { errcode: "M_TOO_LARGE" } });
                await until(() => isLetGo);
                await until(() => Object.keys(agents.http.sockets).length === 0, { what: "the connection's end" });
            }
        });

        it("that is called a success before its end is none", async () => {
            const port = await listening(createHttp((_request, response) => response.end("{}")));
            for (const bytes of [body(8), body(1, SIZE)]) {
                expect(await code(put(port, { body: bytes }))).to.equal("UPLOAD_INTERRUPTED");
                await until(() => isLetGo);
            }
        });

        it("that breaks takes no further piece", async () => {
            const port = await listening(createServer((socket) => socket.once("data", () => socket.destroy())));
            let pieces = 0;
            async function* large(): AsyncGenerator<Uint8Array> {
                while (true) {
                    pieces++;
                    yield Buffer.alloc(SIZE);
                }
            }
            expect(await code(put(port, { size: 4 * SIZE, body: large() }))).to.equal("UPLOAD_INTERRUPTED");
            await until(() => Object.keys(agents.http.sockets).length === 0);
            expect(pieces).to.equal(1);
        });

        it("that is answered with another protocol is broken off", async () => {
            const port = await listening(switching());
            expect(await code(put(port))).to.equal("UPLOAD_INTERRUPTED");
            await until(() => isLetGo);
        });

        it("all of which is there is a success, however the rest of its body takes", async () => {
            const port = await listening(
                createHttp((request, response) => request.resume().on("end", () => response.end("{}"))),
            );
            const late = async function* (): AsyncGenerator<Uint8Array> {
                yield* body(8);
                await new Promise((resolve) => setTimeout(resolve, 100));
            };
            expect(await put(port, { body: late() })).to.include({ status: 200 });
        });

        it("does not take a connection that was kept before its body has something to send", async () => {
            const server = createHttp((request, response) => request.resume().on("end", () => response.end("{}")));
            server.keepAliveTimeout = 0;
            const sockets = new Set<Socket>();
            server.on("connection", (socket) => {
                sockets.add(socket);
                socket.once("close", () => sockets.delete(socket));
            });
            const port = await listening(server);
            const agent = new HttpAgent({ keepAlive: true });
            close.unshift(async () => agent.destroy());
            const agents = { http: agent, https: new HttpsAgent() };
            await put(port, { agents });
            expect(sockets.size).to.equal(1);
            const late = async function* (): AsyncGenerator<Uint8Array> {
                server.closeIdleConnections();
                await until(() => sockets.size === 0, { what: "the server has closed the connection as idle" });
                yield* body(8);
            };
            expect(await put(port, { agents, body: late() })).to.include({ status: 200 });
        });

        it("whose body fails, whose signal aborts, or that is not answered, never looks whole", async () => {
            let whole = 0;
            const server = createHttp((request) => request.resume().on("end", () => whole++));
            const port = await listening(server);
            async function* failing(): AsyncGenerator<Uint8Array> {
                yield* body(7);
                throw new Error("the source broke");
            }
            expect(await code(put(port, { body: failing() }))).to.equal("UPLOAD_INTERRUPTED");
            const abort = new AbortController();
            async function* stalling(): AsyncGenerator<Uint8Array> {
                yield* body(7);
                abort.abort();
                await new Promise((resolve) => setTimeout(resolve, 50));
            }
            expect(await code(put(port, { body: stalling(), signal: abort.signal }))).to.equal("CANCELLED");
            expect(whole).to.equal(0);
            expect(await code(put(port, { limits: { ...LIMITS, headersMs: 200 } }))).to.equal("UPLOAD_INTERRUPTED");
            expect(whole).to.equal(1);
        });

        it("is waited for as long as a proxy may need to hand it on, and no longer", async () => {
            // Two seconds for 8 MiB.
            const answerAfter = async (ms: number) =>
                listening(
                    createHttp((request, response) =>
                        request.resume().on("end", () => setTimeout(() => response.end("{}"), ms)),
                    ),
                );
            const short = { ...LIMITS, headersMs: 200, idleMs: 800 };
            expect(await put(await answerAfter(1000), { limits: short })).to.include({ status: 200 });
            const ended = async (changes: Partial<PutRequest>): Promise<number> => {
                const began = performance.now();
                const port = await answerAfter(60_000);
                expect(await code(put(port, { limits: short, ...changes }))).to.equal("UPLOAD_INTERRUPTED");
                return performance.now() - began;
            };
            expect(await ended({})).to.be.within(1900, 4000);
            expect(await ended({ limits: { ...short, totalMs: 500 } })).to.be.within(450, 1900);
            const small = { size: 1000, body: body(1, 1000) };
            expect(await ended(small), "a small one").to.be.within(150, 1900);
            const patient = { ...LIMITS, headersMs: 2500, idleMs: 300 };
            expect(await ended({ ...small, limits: patient }), "silence").to.be.within(250, 1900);
        });

        it("to where nobody listens was never made", async () => {
            const server = createServer();
            const port = await listening(server);
            await new Promise((resolve) => server.close(resolve));
            expect(await code(put(port))).to.equal("HOMESERVER_UNREACHABLE");
            await until(() => isLetGo);
        });
    });
});
