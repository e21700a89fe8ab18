import { randomInt } from "node:crypto";
import { once } from "node:events";
import { Agent, createServer as createHttpServer, type IncomingMessage, request as httpRequest } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import type { ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { systemCode } from "../../../src/errors.ts";

/**
 * Stands before a server (homeserver, storage, remote network) on a port of its own, sees every request, and can spoil it:
 * on the connection before a byte is read, in the server's place, or after the server has carried it out. What is spoiled
 * goes through the real sockets of the component, so nothing in it knows of the gate. The Host header, which a storage's
 * signatures cover, stays.
 */
export interface Passage {
    readonly method: string;
    readonly path: string;
    readonly rawHeaders: readonly string[];
    /** Undefined while there is no answer. */
    status?: number;
}

/** Answers in the server's place; false lets the request through. */
export type Spoil = (request: IncomingMessage, response: ServerResponse, passage: Passage) => boolean;

/** What the server answered, read to its end. */
export interface Answer {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Buffer;
}

/** One request at the gate and what may be done with it. */
export interface Exchange {
    readonly request: IncomingMessage;
    readonly response: ServerResponse;
    readonly socket: Socket;
    readonly passage: Passage;
    readonly query: URLSearchParams;
    readonly gate: FaultGate;
    /** Has the server carry the request out and reads its answer; the client hears nothing. */
    readonly deliver: () => Promise<Answer>;
    /** Has the server get `share` of the request's body; then its connection breaks. */
    readonly deliverPart: (share: number) => Promise<void>;
    /** Lets both sides talk. */
    readonly pass: () => void;
}

/** A fault that was set up; it counts what it has met. */
export interface Injection {
    readonly hits: number;
    /** When each request that matches came, also those that it let through after its last; by `performance.now()`. */
    readonly seen: readonly number[];
    lift(): void;
}

interface Entry {
    readonly matches: (exchange: Exchange) => boolean;
    readonly strike: (exchange: Exchange, nth: number) => void | Promise<void>;
    readonly limit: number;
    hits: number;
    readonly seen: number[];
}

export interface TlsIdentity {
    readonly key: string;
    readonly cert: string;
}

/** Not among those that are given to whoever asks for any (Linux: from 32768 on): somebody else's server would take it while the gate is shut. */
const PORTS = [20_000, 30_000] as const;

export class FaultGate {
    readonly exchanges: Passage[] = [];
    fault: Spoil = () => false;
    /** Sees each connection before it is read from; true when it has taken it over. */
    onConnection: (socket: Socket) => boolean = () => false;
    /** Connections, or looks at its name, that met what was set up for them. */
    connectionHits = 0;
    readonly #upstream: string;
    readonly #entries: Entry[] = [];
    readonly #sockets = new Set<Socket>();
    // Not with `Connection: close`: a server then breaks the connection with a refusal that came before the end of the body.
    readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: 0 });
    readonly #http: ReturnType<typeof createHttpServer>;
    readonly #server: Server;
    readonly #tls: TlsIdentity | undefined;
    readonly #port: number;
    #isClosed = false;
    /** By which it is reached; a name needs a resolver that knows it. */
    #host = "127.0.0.1";

    private constructor(upstream: string, tls: TlsIdentity | undefined, port: number) {
        this.#upstream = upstream;
        this.#port = port;
        this.#tls = tls;
        const onRequest = (request: IncomingMessage, response: ServerResponse): void =>
            this.#onRequest(request, response);
        const settings = { requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 600_000 };
        this.#http =
            tls === undefined
                ? createHttpServer(settings, onRequest)
                : createHttpsServer({ ...settings, ...tls }, onRequest);
        this.#http.on("clientError", (_error, socket) => socket.destroy());
        this.#server = createServer((socket) => this.#admit(socket));
    }

    /** @param host A name that the tests' resolver leads here. */
    static async open(
        upstream: string,
        { tls, host = "127.0.0.1" }: { tls?: TlsIdentity | undefined; host?: string | undefined } = {},
    ): Promise<FaultGate> {
        for (let tries = 1; ; tries++) {
            const gate = new FaultGate(upstream, tls, randomInt(...PORTS));
            gate.#host = host;
            try {
                await gate.listen();
                return gate;
            } catch (error) {
                if (systemCode(error) !== "EADDRINUSE" || tries === 50) throw error;
            }
        }
    }

    get host(): string {
        return this.#host;
    }

    get url(): string {
        return `${this.#tls === undefined ? "http" : "https"}://${this.#host}:${this.#port}`;
    }

    /** Uploads that came, whatever became of them. */
    get puts(): Passage[] {
        return this.exchanges.filter(({ method }) => method === "PUT");
    }

    /** Spoils the next `limit` requests that match. */
    inject(
        matches: (exchange: Exchange) => boolean,
        strike: (exchange: Exchange, nth: number) => void | Promise<void>,
        limit = 1,
    ): Injection {
        const entry: Entry = { matches, strike, limit, hits: 0, seen: [] };
        this.#entries.push(entry);
        return {
            get hits() {
                return entry.hits;
            },
            seen: entry.seen,
            lift: () => {
                const at = this.#entries.indexOf(entry);
                if (at >= 0) this.#entries.splice(at, 1);
            },
        };
    }

    /** Takes connections again, on the same port; a gate that was closed meanwhile stays so. */
    async listen(): Promise<void> {
        if (this.#isClosed) return;
        this.#server.listen(this.#port, "127.0.0.1");
        await once(this.#server, "listening");
    }

    /** Answers a connection with another certificate. */
    static shake(socket: Socket, identity: TlsIdentity): void {
        const server = createHttpsServer(identity);
        server.on("tlsClientError", () => socket.destroy());
        server.emit("connection", socket);
    }

    /** Refuses connections from now on, and breaks those that there are. */
    async shut(): Promise<void> {
        const closed = new Promise((resolve) => this.#server.close(resolve));
        this.cut();
        await closed;
    }

    /** Breaks every connection that there is. */
    cut(): void {
        for (const socket of this.#sockets) socket.resetAndDestroy();
    }

    async close(): Promise<void> {
        this.#isClosed = true;
        this.#agent.destroy();
        if (this.#server.listening) await this.shut();
    }

    #admit(socket: Socket): void {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.once("close", () => this.#sockets.delete(socket));
        if (this.onConnection(socket)) this.connectionHits++;
        else this.#http.emit("connection", socket);
    }

    #onRequest(request: IncomingMessage, response: ServerResponse): void {
        const { method = "", url = "", rawHeaders, socket } = request;
        const passage: Passage = { method, path: url.split("?")[0] ?? "", rawHeaders };
        this.exchanges.push(passage);
        request.on("error", () => {});
        response.on("error", () => {});
        response.on("finish", () => {
            passage.status = response.statusCode;
        });
        if (this.fault(request, response, passage)) return;
        const exchange: Exchange = {
            request,
            response,
            socket,
            passage,
            query: new URL(url, this.#upstream).searchParams,
            gate: this,
            deliver: () => this.#deliver(request),
            deliverPart: (share) => this.#deliverPart(request, share),
            pass: () => this.#pass(request, response),
        };
        const matching = this.#entries.filter(({ matches }) => matches(exchange));
        for (const { seen } of matching) seen.push(performance.now());
        const entry = matching.find(({ hits, limit }) => hits < limit);
        if (entry === undefined) return exchange.pass();
        void Promise.resolve(entry.strike(exchange, ++entry.hits)).catch(() => socket.destroy());
    }

    #onward(request: IncomingMessage, headers: IncomingMessage["headers"] = request.headers) {
        const { connection: _, ...kept } = headers;
        const options = { method: request.method, headers: kept, agent: this.#agent };
        return httpRequest(new URL(request.url ?? "/", this.#upstream), options);
    }

    async #deliver(request: IncomingMessage): Promise<Answer> {
        const body = await bodyOf(request);
        const onward = this.#onward(request);
        const responded = once(onward, "response") as Promise<[IncomingMessage]>;
        onward.end(body);
        const [answer] = await responded;
        const { statusCode = 502, headers } = answer;
        const flat = Object.entries(headers).map(([name, value]) => [name, String(value)]);
        return { status: statusCode, headers: Object.fromEntries(flat), body: await bodyOf(answer) };
    }

    async #deliverPart(request: IncomingMessage, share: number): Promise<void> {
        const body = await bodyOf(request);
        const onward = this.#onward(request);
        onward.on("error", () => {});
        await new Promise((resolve) => onward.write(body.subarray(0, Math.floor(body.length * share)), resolve));
        onward.destroy();
    }

    #pass(request: IncomingMessage, response: ServerResponse): void {
        const onward = this.#onward(request);
        onward.once("response", (answer) => {
            response.writeHead(answer.statusCode ?? 502, answer.headers);
            answer.pipe(response);
            answer.once("error", () => response.destroy());
        });
        onward.on("error", () => {
            if (!response.headersSent) response.destroy();
        });
        // After a refusal that came before the end of the body, the rest of it has nowhere to go.
        onward.once("close", () => request.unpipe(onward).resume());
        request.once("error", () => onward.destroy());
        request.pipe(onward);
    }
}

const bodies = new WeakMap<IncomingMessage, Promise<Buffer>>();

/** Read once, so that a request can be delivered twice. */
function bodyOf(message: IncomingMessage): Promise<Buffer> {
    const known = bodies.get(message);
    if (known !== undefined) return known;
    const read = async (): Promise<Buffer> => {
        const chunks: Buffer[] = [];
        for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
        return Buffer.concat(chunks);
    };
    const body = read();
    bodies.set(message, body);
    return body;
}
