import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { contentOf, MIMETYPE, type RaceMessage, type Start } from "./message.ts";

/** The homeserver's endpoints over node:http and connections that are kept alive, for contestants without an SDK. */
export class BareClient {
    readonly #agent = new Agent({ keepAlive: true });
    readonly #start: Start;
    #transactions = 0;

    constructor(start: Start) {
        this.#start = start;
    }

    get(url: string): Promise<IncomingMessage> {
        return answerTo(httpRequest(url, { agent: this.#agent }).end());
    }

    async create({ sender }: RaceMessage): Promise<string> {
        const answer = await jsonOf(
            this.#request("POST", "/_matrix/media/v1/create", sender, "application/json", 2).end("{}"),
        );
        return String(answer["content_uri"]);
    }

    async send(message: RaceMessage, url?: string): Promise<void> {
        const { roomId, sender } = message;
        const txnId = `${process.pid}.${this.#transactions++}`;
        const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${txnId}`;
        const body = Buffer.from(JSON.stringify({ ...contentOf(message), ...(url !== undefined && { url }) }));
        await jsonOf(this.#request("PUT", path, sender, "application/json", body.length).end(body));
    }

    /** The request that takes a file's bytes, and the answer to it. */
    upload(url: string, { sender }: RaceMessage, size: number): { request: ClientRequest; answered: Promise<unknown> } {
        const path = `/_matrix/media/v3/upload/${url.slice("mxc://".length)}`;
        const request = this.#request("PUT", path, sender, MIMETYPE, size);
        return { request, answered: jsonOf(request) };
    }

    #request(method: string, path: string, userId: string, contentType: string, length: number): ClientRequest {
        const { homeserverUrl, accessToken } = this.#start;
        return httpRequest(`${homeserverUrl}${path}?user_id=${encodeURIComponent(userId)}`, {
            method,
            agent: this.#agent,
            headers: {
                authorization: `Bearer ${accessToken}`,
                "content-type": contentType,
                "content-length": length,
            },
        });
    }
}

function answerTo(request: ClientRequest): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
        request.on("response", resolve).on("error", reject);
    });
}

async function jsonOf(request: ClientRequest): Promise<Readonly<Record<string, unknown>>> {
    const response = await answerTo(request);
    const body = await text(response);
    if (response.statusCode !== 200) throw new Error(`the homeserver answered ${response.statusCode}: ${body}`);
    return JSON.parse(body) as Record<string, unknown>;
}
