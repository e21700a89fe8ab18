import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "../../bench/processes/serve.ts";
import { bytesOf } from "../plan.ts";
import { Spoiler, type Weather } from "./weather.ts";

/** The remote network's file server: it knows every file by its name. What begins with `gone` is gone. */
const spoiler = new Spoiler(Number(process.env["SOAK_SEED"]));

const server = createServer((request, response) => {
    const file = (request.url ?? "/").slice(1);
    if (file.startsWith("gone")) return void response.writeHead(404).end();
    const bytes = bytesOf(file);
    if (spoiler.spoil(request, response, bytes.length)) return;
    // Now and then without a length: it is spooled first then.
    const length = bytes.length % 7 === 0 ? {} : { "content-length": bytes.length };
    response.writeHead(200, { "content-type": "application/octet-stream", ...length }).end(bytes);
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

const handlers = {
    url: async () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    weather: async (weather: Weather | undefined) => spoiler.set(weather ?? undefined),
};
export type RemoteHandlers = typeof handlers;
serve(handlers);
