import { Agent, createServer, type IncomingMessage, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";

/**
 * Stands between the component and Synapse, passes everything on, and does at chosen moments what a network does at
 * its worst: an answer is lost although the request was carried out, or the one who asked dies before it hears.
 */

/** One request and what Synapse answered. */
export interface Exchange {
    readonly method: string;
    /** Without the query. */
    readonly path: string;
    readonly query: URLSearchParams;
    /** Undefined until Synapse has answered. */
    status?: number;
    body?: string;
    /** Set when the answer was lost on its way back. */
    dropped?: true;
}

export interface Rules {
    /** Before a request is passed on; may take its time, break it off, or answer in Synapse's place. */
    before?(exchange: Exchange): Promise<"drop" | OwnAnswer | undefined> | "drop" | OwnAnswer | undefined;
    /** When Synapse has answered, before the answer is passed on; may take its time, or lose the answer. */
    after?(exchange: Exchange): Promise<"drop" | undefined> | "drop" | undefined;
}

interface OwnAnswer {
    readonly status: number;
    readonly body: object;
}

/** As patient as Synapse with a connection on which nothing happens: an upload may wait that long for its first byte. */
const IDLE_MS = 60_000;

/** What may be asked for, by the exchange's kind. */
export const isSend = ({ method, path }: Exchange): boolean => method === "PUT" && path.includes("/send/");
export const isUpload = ({ method, path }: Exchange): boolean => method === "PUT" && path.includes("/upload/");
export const isCreate = ({ method, path }: Exchange): boolean => method === "POST" && path.endsWith("/create");

export class Proxy {
    readonly url: string;
    readonly exchanges: Exchange[] = [];
    rules: Rules = {};
    readonly #server: Server;
    readonly #target: string;
    /** No connection is used twice, so that one that broke is never met again. */
    readonly #agent = new Agent({ keepAlive: false });

    private constructor(server: Server, target: string) {
        this.#server = server;
        this.#target = target;
        this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    }

    static async open(target: string): Promise<Proxy> {
        const server = createServer({ requestTimeout: 0, keepAliveTimeout: IDLE_MS });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        const proxy = new Proxy(server, target);
        server.on("request", (request: IncomingMessage, response) => {
            // A request that broke has lost its socket by the time it is needed.
            const { socket } = request;
            proxy.#pass(request).then(
                ({ status, headers, body }) => response.writeHead(status, headers).end(body),
                () => socket.destroy(),
            );
        });
        return proxy;
    }

    /** Forgets what was seen, and passes everything again. */
    reset(): void {
        this.rules = {};
        this.exchanges.length = 0;
    }

    /** The statuses of the exchanges of a kind, in the order of the requests; undefined for one without an answer. */
    statuses(kind: (exchange: Exchange) => boolean): (number | undefined)[] {
        return this.exchanges.filter(kind).map(({ status }) => status);
    }

    async close(): Promise<void> {
        this.#server.closeAllConnections();
        this.#agent.destroy();
        await new Promise((resolve) => this.#server.close(resolve));
    }

    /** Rejects where the connection is to be broken. */
    async #pass(request: IncomingMessage) {
        const { pathname, searchParams } = new URL(request.url ?? "/", this.#target);
        const exchange: Exchange = { method: request.method ?? "", path: pathname, query: searchParams };
        this.exchanges.push(exchange);
        const instead = await this.rules.before?.(exchange);
        if (instead === "drop") throw new Error("dropped");
        if (instead !== undefined) {
            const headers = { "content-type": "application/json" };
            return { status: instead.status, headers, body: JSON.stringify(instead.body) };
        }
        const answer = await this.#forward(request);
        exchange.status = answer.status;
        exchange.body = answer.body.toString();
        if ((await this.rules.after?.(exchange)) === "drop") {
            exchange.dropped = true;
            throw new Error("dropped");
        }
        return answer;
    }

    async #forward(request: IncomingMessage) {
        const { connection: _, ...headers } = request.headers;
        const onward = httpRequest(new URL(request.url ?? "/", this.#target), {
            method: request.method,
            headers,
            agent: this.#agent,
        });
        const answered = new Promise<IncomingMessage>((resolve, reject) => {
            onward.once("response", resolve).once("error", reject);
        });
        // An answer that comes before the whole body has gone out is an answer all the same.
        const [answer] = await Promise.all([answered, Promise.race([answered, pipeline(request, onward)])]);
        const chunks: Uint8Array[] = [];
        for await (const chunk of answer) chunks.push(chunk as Uint8Array);
        const { connection: __, "transfer-encoding": ___, ...kept } = answer.headers;
        return { status: answer.statusCode ?? 502, headers: kept, body: Buffer.concat(chunks) };
    }
}
