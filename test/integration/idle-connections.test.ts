import { once } from "node:events";
import { createServer, get, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { guardedAgents } from "../../src/uploads/sources/address-guard.ts";
import { HttpSource } from "../../src/uploads/sources/http.ts";
import { until } from "../support/until.ts";

const LIMITS = { connectMs: 5000, headersMs: 5000, idleMs: 5000, totalMs: 10_000 };

describe("idle connections to sources", () => {
    const servers: Server[] = [];
    afterEach(() => {
        for (const server of servers.splice(0)) {
            server.closeAllConnections();
            server.close();
        }
    });

    /** Never closes a connection by itself. */
    async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
        const server = createServer(answer);
        server.keepAliveTimeout = 0;
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        servers.push(server);
        return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    }
    const connections = async (): Promise<number> => {
        const counts = servers.map(
            (server) => new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count))),
        );
        return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
    };
    async function fetchAll(source: HttpSource, url: string): Promise<void> {
        const { stream } = await source.open({ kind: "http", url }, new AbortController().signal);
        for await (const chunk of stream) expect(chunk.length).to.be.above(0);
    }
    const file = (_request: IncomingMessage, response: ServerResponse): void => {
        response.writeHead(200, { "content-length": 5 }).end("bytes");
    };

    it("are few, of all origins together and of each", async () => {
        const source = new HttpSource(() => true, LIMITS);
        const urls = await Promise.all(Array.from({ length: 50 }, () => serve(file)));
        for (const url of urls) await fetchAll(source, url);
        await until(async () => (await connections()) === 32);
        source.close();
        await until(async () => (await connections()) === 0);

        const one = urls[0] ?? expect.fail();
        const other = new HttpSource(() => true, LIMITS);
        await Promise.all(Array.from({ length: 20 }, () => fetchAll(other, one)));
        await until(async () => (await connections()) <= 8);
        other.close();
    });

    it("end soon by themselves, while a silent body has its request's time, also on one that is used again", async () => {
        const peers: unknown[] = [];
        const url = await serve((request, response) => {
            peers.push(request.socket.remotePort);
            response.writeHead(200, { "content-length": 5 }).write("by");
            setTimeout(() => response.end("tes"), 300);
        });
        const { http } = guardedAgents(() => true, 100);
        for (let i = 0; i < 2; i++) {
            const isFree = once(http, "free");
            const body = await new Promise<string>((resolve, reject) => {
                const request = get(url, { agent: http }, (response) => {
                    let text = "";
                    response.on("data", (chunk: Buffer) => (text += chunk.toString()));
                    response.once("end", () => resolve(text));
                });
                request.once("error", reject);
                request.setTimeout(2000, () => request.destroy(new Error("idle")));
            });
            expect(body).to.equal("bytes");
            // No later: it does not stay for long.
            await isFree;
            expect(Object.keys(http.freeSockets)).to.have.length(1);
        }
        expect(new Set(peers).size).to.equal(1);
        await until(async () => (await connections()) === 0);
    });
});
