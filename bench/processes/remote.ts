import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { serve, usage } from "./serve.ts";

/**
 * The remote network's file server. `/file?size=N` sends N bytes; `&etag=1` adds a validator, as most file servers do,
 * so that a broken download could be resumed; `&rate=N` holds one download to N bytes a second. `/gated`
 * does the same once the gate is open; before that it takes requests and never answers.
 */
const CHUNK = Buffer.alloc(256 * 1024, "bridge media\0");
const TICK_MS = 20;
let isGateOpen = false;

const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://remote");
    if (pathname === "/gated" && !isGateOpen) return;
    const size = Number(searchParams.get("size"));
    response.writeHead(200, {
        "content-type": "application/octet-stream",
        "content-length": size,
        ...(searchParams.has("etag") && { etag: '"bench"', "accept-ranges": "bytes" }),
    });
    const rate = Number(searchParams.get("rate") ?? Number.POSITIVE_INFINITY);
    // A receiver that breaks off is its own affair.
    pipeline(Readable.from(chunks(size, rate), { objectMode: false }), response).catch(() => {});
});
server.requestTimeout = 0;

async function* chunks(size: number, rate: number): AsyncGenerator<Buffer> {
    const began = performance.now();
    for (let sent = 0; sent < size; sent += CHUNK.length) {
        while (sent / rate > (performance.now() - began) / 1000) await sleep(TICK_MS);
        yield CHUNK.subarray(0, Math.min(size - sent, CHUNK.length));
    }
}

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const handlers = {
    url: async () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    gate: async (open: boolean) => {
        isGateOpen = open;
    },
    usage,
};
export type RemoteHandlers = typeof handlers;
serve(handlers);
