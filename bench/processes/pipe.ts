import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";
import { joinHostBridge } from "./host-bridge.ts";
import { Latencies, type SendRound } from "./latencies.ts";
import { repeat } from "./repeat.ts";
import { serve, usage } from "./serve.ts";

/**
 * The baseline: what the same exchange costs with nothing but node:http. Bytes go from a GET into a PUT through
 * `pipeline`, an event is one PUT on a connection that is kept alive; nothing is journaled, checked or bounded.
 */
joinHostBridge();
const agent = new Agent({ keepAlive: true });
let homeserverUrl = "";
let media = 0;

async function get(url: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
        httpRequest(url, { agent }, resolve).on("error", reject).end();
    });
}

async function pipe(url: string): Promise<void> {
    const source = await get(url);
    const headers = { "content-length": source.headers["content-length"], "content-type": "image/jpeg" };
    const target = `${homeserverUrl}/_matrix/media/v3/upload/bench.example/pipe${media++}`;
    const put = httpRequest(target, { method: "PUT", headers, agent });
    const answered = answerOf(put);
    await pipeline(source, put);
    await answered;
}

function answerOf(request: ReturnType<typeof httpRequest>): Promise<void> {
    return new Promise((resolve, reject) => {
        request.on("error", reject);
        request.on("response", (response) => {
            response.resume().on("end", resolve).on("error", reject);
        });
    });
}

async function put(body: object, number: number): Promise<void> {
    const text = JSON.stringify(body);
    const path = `/_matrix/client/v3/rooms/!bench/send/m.room.message/bare${number}`;
    const headers = { "content-length": Buffer.byteLength(text), "content-type": "application/json" };
    const request = httpRequest(homeserverUrl + path, { method: "PUT", agent, headers });
    const answered = answerOf(request);
    request.end(text);
    await answered;
}

let events = 0;

const handlers = {
    start: async (url: string) => {
        homeserverUrl = url;
    },
    transfer: async ({ url, count }: { url: string; count: number }) => {
        const began = performance.now();
        await Promise.all(Array.from({ length: count }, () => pipe(url)));
        return (performance.now() - began) / 1000;
    },
    keepTransferring: async ({ url, count }: { url: string; count: number }) => {
        repeat(count, () => pipe(url));
    },
    sends: async ({ count, pauseMs }: SendRound) => {
        const latencies = new Latencies(pauseMs);
        for (let i = 0; i < count; i++) await latencies.time(() => put({ msgtype: "m.text", body: "hello" }, events++));
        return latencies.milliseconds;
    },
    /** Resolves with the requests a second. */
    flood: async ({ count, atOnce }: { count: number; atOnce: number }) => {
        let left = count;
        const began = performance.now();
        const lane = async () => {
            while (left-- > 0) await put({ msgtype: "m.text", body: "hello" }, events++);
        };
        await Promise.all(Array.from({ length: atOnce }, lane));
        return count / ((performance.now() - began) / 1000);
    },
    usage,
};
export type PipeHandlers = typeof handlers;
serve(handlers);
