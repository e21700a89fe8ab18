import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { bytesOf, GHOSTS, isEncryptedRoom } from "../messages.ts";
import type { Random } from "../random.ts";
import { type Answer, Media, OK, refusal } from "./media.ts";
import type { Kind, Strike } from "./moments.ts";
import { type Content, Rooms } from "./rooms.ts";

/**
 * A homeserver, the storage behind it and a remote network's file server that write down what reaches them, on one
 * socket. Only what the component asks is there, on node:http alone: whoever certifies a store installs nothing for it,
 * and what the judgement rests on is short enough to be read.
 */
export interface RecordedRequest {
    readonly kind: Kind;
    readonly path: string;
    /** When it arrived, in ms since the epoch. */
    readonly at: number;
    /** When its answer was handed to the system; undefined where none was. */
    answeredAt?: number;
}

/** How often in a hundred a world is not at its best, without a kill: what is ambiguous then has to be found out. */
const LOST_ANSWERS = 3;
const FAILURES = 2;
const FORGOTTEN_ADDRESSES = 8;
/** A file takes its time on the way, so that the next messages come meanwhile. */
const LONGEST_PAUSE_MS = 25;

interface Asked {
    readonly path: readonly string[];
    readonly query: URLSearchParams;
    readonly user: string;
    readonly body: Buffer;
}

interface Route {
    readonly kind: Kind;
    readonly method: string;
    readonly path: RegExp;
    readonly handle: (asked: Asked) => Answer | Buffer;
}

export class Recorder {
    readonly rooms = new Rooms();
    readonly media = new Media();
    readonly requests: RecordedRequest[] = [];
    #failures = 0;
    readonly #server: Server;
    readonly #routes: readonly Route[];
    readonly #strike: Strike;
    readonly #random: Random;

    private constructor(strike: Strike, random: Random) {
        this.#strike = strike;
        this.#random = random;
        this.#routes = this.#table();
        this.#server = createServer((request, response) => {
            void this.#serve(request, response).catch(() => response.destroy());
        });
    }

    static async start(strike: Strike, random: Random): Promise<Recorder> {
        const recorder = new Recorder(strike, random);
        await new Promise<void>((resolve) => recorder.#server.listen(0, "127.0.0.1", resolve));
        return recorder;
    }

    get url(): string {
        return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    }

    /** Requests that were refused for no fault of theirs. */
    get failures(): number {
        return this.#failures;
    }

    /** Lets go of what a dead process had open: what it had sent whole was handled when it arrived. */
    hangUp(): void {
        this.#server.closeAllConnections();
    }

    async close(): Promise<void> {
        this.hangUp();
        await new Promise((resolve) => this.#server.close(resolve));
    }

    async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
        const { pathname, searchParams: query } = new URL(request.url ?? "/", "http://recorder");
        const route = this.#routes.find(({ method, path }) => method === request.method && path.test(pathname));
        const kind = route?.kind ?? "other";
        const record: RecordedRequest = { kind, path: pathname, at: Date.now() };
        this.requests.push(record);
        const strikes = (phase: Parameters<Strike>[1]): boolean => {
            if (!this.#strike(kind, phase)) return false;
            request.socket.destroy();
            return true;
        };
        if (strikes("arrived")) return;
        const body = await read(request, () => strikes("half"));
        if (body === undefined) return;
        const [, ...path] = (route?.path.exec(pathname) ?? []).map(decodeURIComponent);
        const failure = this.#fails(kind);
        const asked = { path, query, user: query.get("user_id") ?? "", body };
        const answer = failure ?? route?.handle(asked) ?? UNRECOGNIZED;
        if (strikes("handled")) return;
        if (this.#losesAnswer(kind)) return void request.socket.destroy();
        if (Buffer.isBuffer(answer)) {
            const pauseMs = this.#random.below(LONGEST_PAUSE_MS);
            const isStruck = (): boolean => kind === "fetch" && strikes("half");
            await giveFile(response, answer, { withoutLength: pathname.includes("/no-length/"), pauseMs, isStruck });
        } else {
            await giveJson(response, answer);
            this.media.heard(answer.body["content_uri"]);
        }
        record.answeredAt = Date.now();
        strikes("answered");
    }

    #fails(kind: Kind): Answer | undefined {
        const mayFail = kind === "upload" || kind === "complete" || kind === "fetch";
        if (!mayFail || this.#random.below(100) >= FAILURES) return undefined;
        this.#failures++;
        return refusal(503, "M_UNKNOWN");
    }

    #losesAnswer(kind: Kind): boolean {
        const mayLose = kind === "send" || kind === "upload" || kind === "complete" || kind === "storage";
        return mayLose && this.#random.below(100) < LOST_ANSWERS;
    }

    #table(): readonly Route[] {
        const { rooms, media } = this;
        const json = ({ body }: Asked): Content => JSON.parse(body.toString()) as Content;
        const to = (kind: Kind, method: string, path: RegExp, handle: Route["handle"]): Route => ({
            kind,
            method,
            path,
            handle,
        });
        return [
            to("create", "POST", /^\/_matrix\/media\/v1\/create$/, ({ user }) =>
                media.create(
                    user,
                    user === GHOSTS[1] ? `${this.url}/storage` : undefined,
                    this.#random.below(100) < FORGOTTEN_ADDRESSES,
                ),
            ),
            to("upload", "PUT", /^\/_matrix\/media\/v3\/upload\/[^/]+\/([^/]+)$/, ({ path: [id = ""], user, body }) =>
                media.fill(id, user, body),
            ),
            to("complete", "POST", /^\/_matrix\/media\/v1\/upload\/[^/]+\/([^/]+)\/complete$/, (asked) =>
                media.complete(asked.path[0] ?? "", asked.user),
            ),
            to("storage", "PUT", /^\/storage\/([^/]+)$/, ({ path: [id = ""], query, body }) =>
                media.store(id, query.get("signature"), body),
            ),
            to("send", "PUT", /^\/_matrix\/client\/v3\/rooms\/([^/]+)\/send\/([^/]+)\/([^/]+)$/, (asked) => {
                const [room_id = "", type = "", transactionId = ""] = asked.path;
                const event = { room_id, type, transactionId, sender: asked.user, content: json(asked) };
                return { status: 200, body: { event_id: rooms.accept(event) } };
            }),
            to(
                "look",
                "GET",
                /^\/_matrix\/client\/v3\/rooms\/([^/]+)\/messages$/,
                ({ path: [room = ""], user, query }) => ({
                    status: 200,
                    body: rooms.page(room, user, query),
                }),
            ),
            to(
                "other",
                "GET",
                /^\/_matrix\/client\/v3\/rooms\/([^/]+)\/state\/m\.room\.encryption\/?$/,
                ({ path: [room = ""] }) => (isEncryptedRoom(room) ? OK : refusal(404, "M_NOT_FOUND")),
            ),
            to("other", "POST", /^\/_matrix\/client\/v3\/rooms\/[^/]+\/join$/, () => OK),
            to("other", "GET", /^\/_matrix\/client\/v1\/media\/config$/, () => ({
                status: 200,
                body: { "m.upload.size": 64 * 2 ** 20 },
            })),
            to("look", "GET", /^\/_matrix\/client\/v1\/media\/download\/[^/]+\/([^/]+)$/, ({ path: [id = ""] }) =>
                media.download(id),
            ),
            to("fetch", "GET", /^\/remote\/missing\/[^/]+$/, () => refusal(404, "gone")),
            to("fetch", "GET", /^\/remote\/[^/]+\/([^/]+)$/, ({ path: [name = ""] }) => bytesOf(name)),
        ];
    }
}

const UNRECOGNIZED = refusal(404, "M_UNRECOGNIZED");

/** The whole body; undefined where it was cut off. */
async function read(request: IncomingMessage, isStruck: () => boolean): Promise<Buffer | undefined> {
    const chunks: Buffer[] = [];
    const half = Number(request.headers["content-length"] ?? 0) / 2;
    let received = 0;
    try {
        for await (const chunk of request as AsyncIterable<Buffer>) {
            const before = received;
            received += chunk.length;
            chunks.push(chunk);
            if (before < half && received >= half && isStruck()) return undefined;
        }
    } catch {
        return undefined;
    }
    return request.complete ? Buffer.concat(chunks) : undefined;
}

function giveJson(response: ServerResponse, { status, body }: Answer): Promise<void> {
    response.writeHead(status, { "content-type": "application/json" });
    return new Promise((resolve) => response.end(JSON.stringify(body), resolve));
}

async function giveFile(
    response: ServerResponse,
    bytes: Buffer,
    { withoutLength, pauseMs, isStruck }: { withoutLength: boolean; pauseMs: number; isStruck: () => boolean },
): Promise<void> {
    const type = { "content-type": "application/octet-stream" };
    response.writeHead(200, withoutLength ? type : { ...type, "content-length": bytes.length });
    const middle = Math.floor(bytes.length / 2);
    await new Promise((resolve) => response.write(bytes.subarray(0, middle), resolve));
    await sleep(pauseMs);
    if (isStruck()) return;
    await new Promise<void>((resolve) => response.end(bytes.subarray(middle), resolve));
}
