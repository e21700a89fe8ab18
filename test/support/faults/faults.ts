import { setTimeout as sleep } from "node:timers/promises";
import type { Answer, Exchange } from "./gate.ts";

/**
 * What can happen to a request on its way, one row of the matrix each. Whether the server carries the request out is part of
 * the fault: the hardest are those where it does and nobody hears of it.
 */
export interface Fault {
    readonly name: string;
    /** How many requests in a row meet it. */
    readonly times: number;
    readonly strike: (exchange: Exchange, nth: number) => void | Promise<void>;
    /** The component notices only by its own time limit. @default false */
    readonly silent?: boolean;
    /** How long the other side asked to wait, in milliseconds. */
    readonly toldMs?: number;
    /** The request reaches the server more than once; then only its memory of transactions keeps an event single. */
    readonly repeats?: boolean;
    /** It is the clock of the component's process, which it turns by so much while the request is at its gate. @default 0 */
    readonly clockMs?: number;
    /** Sets right what it has spoiled for good: awaited before all is said again after a restart. */
    readonly lift?: () => Promise<void>;
    /** It meets connections and not requests: the gate then has a name and a certificate. @default false */
    readonly onConnection?: boolean;
}

const PAGE = "<!DOCTYPE html><html><head><title>Login</title></head><body>Please log in</body></html>";
const WRONG = {
    event_id: 7,
    content_uri: ["mxc://example.org/x"],
    unused_expires_at: "tomorrow",
    chunk: "none",
    end: { at: 1 },
    "m.upload.size": "large",
    room_id: null,
};
const TOLD_MS = 2500;

/** An answer as bytes on the wire. */
function wire({ status, headers, body }: Answer, announced = body.length): Buffer {
    const kept = Object.entries(headers).filter(
        ([name]) => !["content-length", "transfer-encoding", "connection", "keep-alive", "date"].includes(name),
    );
    const lines = [`HTTP/1.1 ${status} Some Words`, ...kept.map(([name, value]) => `${name}: ${value}`)];
    return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\ncontent-length: ${announced}\r\n\r\n`), body]);
}

function answered(status: number, body: string, headers: Record<string, string> = {}): Fault["strike"] {
    return ({ request, response }) => {
        request.resume();
        response.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
    };
}

/** Passes an answer on; the connection stays good. */
function answer({ response }: Exchange, { status, headers, body }: Answer): Promise<void> {
    const { connection: _, "keep-alive": __, "transfer-encoding": ___, ...kept } = headers;
    return new Promise((resolve) => {
        response.writeHead(status, { ...kept, "content-length": body.length });
        response.end(body, resolve);
    });
}

/** What the server said, in other words. */
function deliveredBut(spoiled: (answer: Answer) => Answer): Fault["strike"] {
    return async (exchange) => answer(exchange, spoiled(await exchange.deliver()));
}

/** Writes piece by piece, with a pause before each; ends early when the client has gone. */
async function drip(exchange: Exchange, bytes: Buffer, pieces: number, pauseMs: number): Promise<void> {
    const size = Math.ceil(bytes.length / pieces);
    for (let at = 0; at < bytes.length && !exchange.socket.destroyed; at += size) {
        exchange.response.write(bytes.subarray(at, at + size));
        await sleep(pauseMs);
    }
}

export const FAULTS: readonly Fault[] = [
    {
        name: "no answer (delivered)",
        times: 1,
        silent: true,
        strike: async ({ deliver }) => void (await deliver()),
    },
    {
        name: "answer stalls midway",
        times: 1,
        silent: true,
        async strike({ deliver, socket }) {
            const bytes = wire(await deliver());
            socket.write(bytes.subarray(0, bytes.length - 1));
        },
    },
    {
        name: "peer vanished (half-open)",
        times: 1,
        silent: true,
        strike: ({ socket }) => void socket.pause(),
    },
    {
        name: "answer never ends (drip)",
        times: 1,
        silent: true,
        async strike({ request, response }) {
            request.resume();
            response.writeHead(200, { "content-type": "application/octet-stream" });
            while (!response.destroyed) {
                response.write(" ");
                await sleep(100);
            }
        },
    },
    {
        name: "slow drip to the end",
        times: 1,
        async strike(exchange) {
            const { status, headers, body } = await exchange.deliver();
            const { connection: _, "keep-alive": __, "transfer-encoding": ___, ...kept } = headers;
            exchange.response.writeHead(status, { ...kept, "content-length": body.length });
            await drip(exchange, body, 20, 50);
            exchange.response.end();
        },
    },
    { name: "reset before delivery", times: 3, strike: ({ socket }) => void socket.resetAndDestroy() },
    {
        name: "reset midway through the request",
        times: 2,
        async strike({ deliverPart, socket }) {
            await deliverPart(0.5);
            socket.resetAndDestroy();
        },
    },
    {
        name: "reset after delivery (lost answer)",
        times: 1,
        async strike({ deliver, socket }) {
            await deliver();
            socket.resetAndDestroy();
        },
    },
    {
        name: "reset midway through the answer",
        times: 2,
        async strike({ deliver, socket }) {
            const bytes = wire(await deliver());
            await new Promise((resolve) => socket.write(bytes.subarray(0, Math.ceil(bytes.length * 0.9)), resolve));
            socket.resetAndDestroy();
        },
    },
    {
        name: "answer truncated",
        times: 2,
        async strike({ deliver, socket }) {
            const bytes = wire(await deliver());
            socket.end(bytes.subarray(0, bytes.length - 1));
        },
    },
    {
        name: "delivered twice",
        times: 1,
        repeats: true,
        async strike(exchange) {
            await exchange.deliver();
            await answer(exchange, await exchange.deliver());
        },
    },
    {
        name: "answered twice",
        times: 1,
        async strike(exchange) {
            const delivered = await exchange.deliver();
            // In one piece: what comes later finds the connection idle, and is not read.
            exchange.socket.cork();
            const first = answer(exchange, delivered);
            exchange.socket.write(wire(delivered));
            exchange.socket.uncork();
            await first;
        },
    },
    {
        name: "429 with Retry-After",
        times: 1,
        toldMs: TOLD_MS,
        strike: answered(429, JSON.stringify({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms: TOLD_MS }), {
            "retry-after": String(Math.ceil(TOLD_MS / 1000)),
        }),
    },
    { name: "429 without Retry-After", times: 3, strike: answered(429, '{"errcode":"M_LIMIT_EXCEEDED"}') },
    { name: "burst of 503", times: 3, strike: answered(503, PAGE, { "content-type": "text/html" }) },
    {
        name: "404 of a proxy",
        times: 3,
        strike: answered(404, "404 page not found\n", { "content-type": "text/plain" }),
    },
    {
        name: "502 after delivery",
        times: 1,
        strike: deliveredBut(() => ({
            status: 502,
            headers: { "content-type": "text/html" },
            body: Buffer.from("<html>Bad Gateway</html>"),
        })),
    },
    { name: "200 with a page", times: 2, strike: answered(200, PAGE, { "content-type": "text/html" }) },
    {
        name: "200 with wrong types",
        times: 2,
        strike: deliveredBut((answer) => ({ ...answer, status: 200, body: Buffer.from(JSON.stringify(WRONG)) })),
    },
    {
        name: "200 without a body",
        times: 2,
        strike: deliveredBut((answer) => ({ ...answer, status: 200, body: Buffer.alloc(0) })),
    },
    {
        name: "no HTTP at all",
        times: 2,
        async strike({ deliver, socket }) {
            await deliver();
            socket.end(Buffer.from("\u0000\u00FF\u0001SSH-2.0-OpenSSH_9.2\r\n\r\n", "latin1"));
        },
    },
];
