import { Agent, createServer, type IncomingMessage, request as httpRequest, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One request to the storage and what came of it. */
export interface StorageExchange {
    readonly method: string;
    readonly path: string;
    readonly rawHeaders: readonly string[];
    /** Undefined while there is no answer. */
    status?: number;
}

/** Answers in the storage's place; false lets the request through. */
export type StorageFault = (request: IncomingMessage, response: ServerResponse, exchange: StorageExchange) => boolean;

/** Stands before a storage: sees what is asked of it, and can fail in its place. The Host header, which is signed, stays. */
export class StorageGate {
    readonly url: string;
    readonly exchanges: StorageExchange[] = [];
    fault: StorageFault = () => false;
    readonly #agent = new Agent({ keepAlive: false });
    readonly #server: ReturnType<typeof createServer>;

    private constructor(server: ReturnType<typeof createServer>) {
        this.#server = server;
        this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    }

    static async open(storageUrl: string): Promise<StorageGate> {
        const server = createServer({ requestTimeout: 0 });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        const gate = new StorageGate(server);
        server.on("request", (request: IncomingMessage, response: ServerResponse) => {
            const { method = "", url = "", rawHeaders } = request;
            const exchange: StorageExchange = { method, path: url.split("?")[0] ?? "", rawHeaders };
            gate.exchanges.push(exchange);
            response.on("finish", () => {
                exchange.status = response.statusCode;
            });
            if (!gate.fault(request, response, exchange)) gate.#pass(storageUrl, request, response);
        });
        return gate;
    }

    /** Uploads that came, whatever became of them. */
    get puts(): StorageExchange[] {
        return this.exchanges.filter(({ method }) => method === "PUT");
    }

    async close(): Promise<void> {
        this.#server.closeAllConnections();
        this.#agent.destroy();
        await new Promise((resolve) => this.#server.close(resolve));
    }

    #pass(storageUrl: string, request: IncomingMessage, response: ServerResponse): void {
        const { connection: _, ...headers } = request.headers;
        const { method } = request;
        const onward = httpRequest(new URL(request.url ?? "/", storageUrl), { method, headers, agent: this.#agent });
        onward.once("response", (answer) => {
            response.writeHead(answer.statusCode ?? 502, answer.headers);
            answer.pipe(response);
        });
        onward.once("error", () => response.destroy());
        request.once("error", () => onward.destroy());
        request.pipe(onward);
    }
}
