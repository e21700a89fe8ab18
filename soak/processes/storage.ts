import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { serve } from "../../bench/processes/serve.ts";
import { Spoiler, type Weather } from "./weather.ts";

/** The storage behind the homeserver's presigned addresses. Objects are the homeserver's once it has read them. */
const MAX_OBJECTS = 2000;
const objects = new Map<string, { readonly body: Buffer; readonly contentType: string }>();
const spoiler = new Spoiler(Number(process.env["SOAK_SEED"]) + 1);

const server = createServer((request, response) => {
    const { method, url = "" } = request;
    const path = url.split("?", 1)[0] ?? "";
    if (method === "GET") {
        const object = objects.get(path);
        if (object === undefined) response.writeHead(404).end();
        else response.writeHead(200, { "content-type": object.contentType }).end(object.body);
        return;
    }
    if (spoiler.spoil(request, response)) return;
    // One that breaks off leaves nothing.
    buffer(request)
        .then((body) => keep(path, body, request, response))
        .catch(() => {});
});

function keep(path: string, body: Buffer, { headers }: IncomingMessage, response: ServerResponse): void {
    objects.set(path, { body, contentType: headers["content-type"] ?? "application/octet-stream" });
    const [oldest] = objects.keys();
    if (objects.size > MAX_OBJECTS && oldest !== undefined) objects.delete(oldest);
    response.writeHead(200).end();
}

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

const handlers = {
    url: async () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    weather: async (weather: Weather | undefined) => spoiler.set(weather ?? undefined),
};
export type StorageHandlers = typeof handlers;
serve(handlers);
