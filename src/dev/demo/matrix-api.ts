import { setTimeout as sleep } from "node:timers/promises";
import { DemoFailure, reasonOf } from "./failure.ts";
import { type Json, objectOf, textOf } from "./json.ts";

/** The few requests the demo makes on its own: for rooms and ghosts before, and to read everything back after. */

export interface ApiRequest {
    readonly query?: Readonly<Record<string, string | number | undefined>>;
    readonly body?: Json;
    /** The ghost to act as. */
    readonly userId?: string | undefined;
}

/** The homeserver said no. */
export class MatrixRefusal extends DemoFailure {
    readonly errcode: string;
    readonly status: number;

    constructor(request: string, status: number, body: Json) {
        const errcode = textOf(body["errcode"], "M_UNKNOWN");
        super(`The homeserver answered ${status} ${errcode} to ${request}: ${textOf(body["error"])}`);
        this.errcode = errcode;
        this.status = status;
    }
}

const MAX_WAITS = 20;

export class MatrixApi {
    readonly url: string;
    readonly #token: string;

    constructor(url: string, token: string) {
        this.url = url;
        this.#token = token;
    }

    async request(method: "GET" | "POST" | "PUT", path: string, request: ApiRequest = {}): Promise<Json> {
        for (let waits = 0; ; waits++) {
            const response = await this.open(method, path, request);
            const body = await jsonObject(response);
            if (response.ok) return body;
            if (response.status !== 429 || waits === MAX_WAITS)
                throw new MatrixRefusal(`${method} ${path}`, response.status, body);
            await sleep(Math.min(10_000, Number(body["retry_after_ms"] ?? 1000)));
        }
    }

    /** The bare answer, whatever its status; its body is still to be read. */
    async open(method: string, path: string, { query = {}, body, userId }: ApiRequest = {}): Promise<Response> {
        const url = new URL(this.url + path);
        const parameters: ApiRequest["query"] = { ...query, user_id: userId };
        for (const [name, value] of Object.entries(parameters)) {
            if (value !== undefined) url.searchParams.set(name, String(value));
        }
        const headers = { authorization: `Bearer ${this.#token}`, "content-type": "application/json" };
        try {
            return await fetch(url, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) });
        } catch (error) {
            throw new DemoFailure(`The homeserver at ${this.url} cannot be reached: ${reasonOf(error)}`, {
                cause: error,
            });
        }
    }
}

async function jsonObject(response: Response): Promise<Json> {
    try {
        return objectOf(await response.json());
    } catch {
        return {};
    }
}
