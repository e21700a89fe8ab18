import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Sightings } from "./race/sightings.ts";
import { serve, usage } from "./serve.ts";

/**
 * The least that the component takes for a homeserver: it answers at once and swallows uploads, so that a measurement
 * shows the component and not its partner.
 */
let created = 0;
let sent = 0;
let uploads = 0;
let uploadedBytes = 0;
let storedFiles = 0;
let completed = 0;
let firstUploadByteAt: number | undefined;
let isFailing = false;
/** Whether files are asked for at a presigned address; this server plays the storage as well. */
let isPresigned = false;
/** Only a race needs a witness. */
let sightings: Sightings | undefined;

const server = createServer((request, response) => {
    const { method = "", url = "" } = request;
    if (isFailing) return discard(request, () => answer(response, 503, { errcode: "M_UNKNOWN", error: "down" }));
    if (method === "PUT" && (url.startsWith("/_matrix/media/") || url.startsWith("/storage/")))
        return swallow(request, response);
    if (method === "POST" && url.startsWith("/_matrix/media/v3/upload")) return swallow(request, response, newMxc());
    if (method === "PUT" && url.includes("/send/")) return accept(request, response);
    discard(request, () => answer(response, 200, reply(method, url)));
});
server.keepAliveTimeout = 600_000;
server.requestTimeout = 0;
server.maxRequestsPerSocket = 0;

function reply(method: string, url: string): object {
    if (method === "POST" && url.startsWith("/_matrix/media/v1/create")) {
        const contentUri = newMxc();
        const mediaId = contentUri.slice(contentUri.lastIndexOf("/") + 1);
        return {
            content_uri: contentUri,
            ...(isPresigned && { "com.beeper.msc3870.upload_url": `${address()}/storage/${mediaId}?signature=bench` }),
        };
    }
    if (url.includes("/complete?")) completed++;
    if (url.includes("/media/config")) return { "m.upload.size": 2 ** 40 };
    if (url.includes("/messages?")) return { chunk: [] };
    return url.startsWith("/_matrix/client/") ? clientReply(url) : {};
}

/** The SDKs join before they send, and ask whether they may. */
function clientReply(url: string): object {
    const [, roomId] = /\/(?:join|rooms)\/([^/?]+)/.exec(url) ?? [];
    if (url.includes("/joined_rooms")) return { joined_rooms: [] };
    if (url.includes("/join")) return { room_id: decodeURIComponent(roomId ?? "") };
    if (url.includes("/m.room.power_levels")) return { users_default: 0 };
    return {};
}

function newMxc(): string {
    return `mxc://bench.example/${process.pid}x${created++}`;
}

function accept(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
        sightings?.event(Buffer.concat(chunks).toString());
        answer(response, 200, { event_id: `$${sent++}` });
    });
}

/** @param contentUri Where the file is, when the request does not name it. */
function swallow(request: IncomingMessage, response: ServerResponse, contentUri?: string): void {
    let bytes = 0;
    if (request.url?.startsWith("/storage/") === true) storedFiles++;
    uploads++;
    request.on("data", (chunk: Buffer) => {
        firstUploadByteAt ??= Date.now();
        uploadedBytes += chunk.length;
        bytes += chunk.length;
    });
    request.on("end", () => {
        sightings?.file(contentUri ?? nameOf(request), bytes);
        answer(response, 200, { content_uri: contentUri });
    });
    request.on("error", () => {});
}

function nameOf({ url = "" }: IncomingMessage): string {
    const [, server, mediaId] = /\/upload\/([^/]+)\/([^/?]+)/.exec(url) ?? [];
    return `mxc://${server}/${mediaId}`;
}

function discard(request: IncomingMessage, then: () => void): void {
    request.resume();
    request.on("end", then);
}

function answer(response: ServerResponse, status: number, body: object): void {
    const text = JSON.stringify(body);
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    response.end(text);
}

function address(): string {
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const handlers = {
    url: async () => address(),
    counts: async () => ({ created, sent, uploads, uploadedBytes, storedFiles, completed, firstUploadByteAt }),
    presigned: async (value: boolean) => {
        isPresigned = value;
    },
    failing: async (value: boolean) => {
        isFailing = value;
    },
    /** What was seen since this was asked for the last time; from the first time on it looks. */
    seen: async () => {
        sightings ??= new Sightings();
        return sightings.take();
    },
    usage,
};
export type HomeserverHandlers = typeof handlers;
serve(handlers);
