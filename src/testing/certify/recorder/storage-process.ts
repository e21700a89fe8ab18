import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { bodyOf } from "./body.ts";
import type { Phase } from "./moments.ts";
import { isSigned } from "./signature.ts";

/**
 * A storage behind the homeserver: a process of its own that keeps what comes with a signed address, and gives it to the
 * homeserver by another one. At each instant of a PUT it asks whoever has started it, and goes on when it is told to, so
 * that the process on the other end can be killed there.
 */

/** What the process is told. */
export type ToStorage =
    | { readonly secret: string }
    | { readonly answer: number; readonly goesOn: boolean }
    | { readonly hangUp: number };

/** What it tells. */
export type FromStorage =
    | { readonly port: number }
    | {
          readonly ask: number;
          readonly request: number;
          readonly phase: Phase;
          readonly key: string;
          readonly isSigned: boolean;
          readonly hasToken: boolean;
      }
    | { readonly hungUp: number };

const objects = new Map<string, Buffer>();
const asked = new Map<number, (goesOn: boolean) => void>();
let count = 0;
let requests = 0;
let secret: string | undefined;

const server = createServer((request, response) => {
    void serve(request, response).catch(() => response.destroy());
});
const tell = (word: FromStorage): void => void process.send?.(word);

process.on("disconnect", () => process.exit(0));
process.on("message", (word: ToStorage) => {
    if ("secret" in word) {
        ({ secret } = word);
        server.listen(0, "127.0.0.1", () => tell({ port: (server.address() as AddressInfo).port }));
    } else if ("answer" in word) {
        asked.get(word.answer)?.(word.goesOn);
        asked.delete(word.answer);
    } else {
        server.closeAllConnections();
        tell({ hungUp: word.hangUp });
    }
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", headers } = request;
    const url = new URL(request.url ?? "/", "http://storage");
    const key = url.pathname.slice(1);
    const isAllowed = isSigned(secret ?? "", method, url);
    if (method === "GET") {
        const object = objects.get(key);
        const [status, body] = isAllowed ? (object === undefined ? [404, ""] : [200, object]) : [403, ""];
        response.writeHead(status, { connection: "close" }).end(body);
        return;
    }
    const hasToken = headers.authorization !== undefined;
    const number = ++requests;
    const stops = async (phase: Phase): Promise<boolean> => {
        const goesOn = await new Promise<boolean>((resolve) => {
            const ask = ++count;
            asked.set(ask, resolve);
            tell({ ask, request: number, phase, key, isSigned: isAllowed, hasToken });
        });
        if (!goesOn) request.socket.destroy();
        return !goesOn;
    };
    if (await stops("arrived")) return;
    const body = await bodyOf(request, () => stops("half"));
    if (body === undefined) return;
    if (isAllowed) {
        objects.set(key, body);
        if (await stops("handled")) return;
    }
    response.writeHead(isAllowed ? 200 : 403);
    await new Promise<void>((resolve) => response.end(resolve));
    await stops("answered");
}
