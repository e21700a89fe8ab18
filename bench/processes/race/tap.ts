import { Agent, createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { serve, usage } from "../serve.ts";
import { Sightings } from "./sightings.ts";

/**
 * The witness before a homeserver that cannot be asked: passes everything on, and notes which events and files it has answered
 * with a 200. Every contestant goes through it.
 */
const agent = new Agent({ keepAlive: true });
const sightings = new Sightings();
let target = "";

const server = createServer((request, response) => {
    pass(request, response).catch(() => response.destroy());
});
server.requestTimeout = 0;

async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers } = request;
    const onward = httpRequest(target + url, { method, headers, agent });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
        onward.on("response", resolve).on("error", reject);
    });
    const kept: Buffer[] = [];
    let bytes = 0;
    const isSend = method === "PUT" && url.includes("/send/");
    request.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (isSend) kept.push(chunk);
    });
    const [answer] = await Promise.all([answered, pipeline(request, onward)]);
    const body = await buffer(answer);
    if (answer.statusCode === 200) {
        if (isSend) sightings.event(Buffer.concat(kept).toString());
        const file = url.includes("/upload") ? addressOf(url, body) : undefined;
        if (file !== undefined) sightings.file(file, bytes);
    }
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    response.end(body);
}

/** An upload names the file's address in its path, or is told it. */
function addressOf(url: string, body: Buffer): string | undefined {
    const [, server_, mediaId] = /\/upload\/([^/]+)\/([^/?]+)/.exec(url) ?? [];
    if (mediaId !== undefined) return `mxc://${server_}/${mediaId}`;
    return (JSON.parse(body.toString()) as { content_uri?: string }).content_uri;
}

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const handlers = {
    /** Resolves with its own address, which stands for the homeserver's. */
    start: async (homeserverUrl: string) => {
        target = homeserverUrl;
        return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    },
    seen: async () => sightings.take(),
    usage,
};
export type TapHandlers = typeof handlers;
serve(handlers);
