import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { bodyOf } from "./body.ts";
import { type Answer, Media, refusal } from "./media.ts";
import type { Kind, Phase, Strike } from "./moments.ts";
import { Network } from "./network.ts";
import { Profiles } from "./profiles.ts";
import { Rooms } from "./rooms.ts";
import { type Route, routes } from "./routes.ts";
import { Storage, type StorageInstant } from "./storage.ts";

/**
 * A homeserver and a remote network's file server that write down what reaches them, on one socket, and the homeserver's
 * storage in a process of its own. Only what the component asks is there, on node:http alone: whoever certifies a store
 * installs nothing for it, and what the judgement rests on is short enough to be read.
 */
export interface RecordedRequest {
    readonly kind: Kind;
    readonly path: string;
    /** When it arrived, in ms since the epoch. */
    readonly at: number;
    /** What it was answered, or would have been; undefined where it was cut off before. */
    status?: number;
    /** When its answer was handed to the system; undefined where none was. */
    answeredAt?: number;
}

/** How often in a hundred a world is not at its best, without a kill: what is ambiguous then has to be found out. */
const LOST_ANSWERS = 3;
const FAILURES = 2;
/** A file takes its time on the way, so that the next messages come meanwhile. */
const LONGEST_PAUSE_MS = 25;

export class Recorder {
    readonly rooms = new Rooms();
    readonly media = new Media();
    readonly profiles = new Profiles(this.media);
    readonly network = new Network();
    readonly requests: RecordedRequest[] = [];
    readonly #server: Server;
    readonly #storage: Storage;
    readonly #routes: readonly Route[];
    readonly #strike: Strike;
    readonly #random: Random;

    private constructor(strike: Strike, random: Random, storage: Storage) {
        this.#strike = strike;
        this.#random = random;
        this.#storage = storage;
        this.#routes = routes({ ...this.#recorded, storage, random });
        this.#server = createServer((request, response) => {
            void this.#serve(request, response).catch(() => response.destroy());
        });
    }

    static async start(strike: Strike, random: Random): Promise<Recorder> {
        const underWay = new Map<number, RecordedRequest>();
        const storage = await Storage.start((instant) => recorder.#storageGoesOn(instant, underWay));
        const recorder = new Recorder(strike, random, storage);
        await new Promise<void>((resolve) => recorder.#server.listen(0, "127.0.0.1", resolve));
        return recorder;
    }

    get url(): string {
        return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    }

    /** Lets go of what a dead process had open: what it had sent whole was handled when it arrived. */
    async hangUp(): Promise<void> {
        this.#server.closeAllConnections();
        await this.#storage.hangUp();
    }

    async close(): Promise<void> {
        this.#server.closeAllConnections();
        await Promise.all([new Promise((resolve) => this.#server.close(resolve)), this.#storage.close()]);
    }

    get #recorded() {
        const { rooms, media, profiles, network } = this;
        return { rooms, media, profiles, network };
    }

    async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
        const { pathname, searchParams: query } = new URL(request.url ?? "/", "http://recorder");
        const route = this.#routes.find(({ method, path }) => method === request.method && path.test(pathname));
        const kind = route?.kind ?? "other";
        const record: RecordedRequest = { kind, path: pathname, at: Date.now() };
        this.requests.push(record);
        const strikes = (phase: Phase): boolean => {
            if (!this.#strike(kind, phase)) return false;
            request.socket.destroy();
            return true;
        };
        if (strikes("arrived")) return;
        const body = await bodyOf(request, () => strikes("half"));
        if (body === undefined) return;
        const [, ...path] = (route?.path.exec(pathname) ?? []).map(decodeURIComponent);
        const failure = this.#fails(kind);
        const asked = { path, query, user: query.get("user_id") ?? "", body };
        const answer = failure ?? (await route?.handle(asked)) ?? UNRECOGNIZED;
        record.status = Buffer.isBuffer(answer) ? 200 : answer.status;
        if (strikes("handled")) return;
        if (this.#losesAnswer(kind)) return void request.socket.destroy();
        if (Buffer.isBuffer(answer)) {
            const pauseMs = this.#random.below(LONGEST_PAUSE_MS);
            const isStruck = (): boolean => kind === "fetch" && strikes("half");
            await giveFile(response, answer, { withoutLength: pathname.includes("/no-length/"), pauseMs, isStruck });
        } else {
            await giveJson(response, answer);
            this.media.heard(answer.body["content_uri"]);
            if (answer.status === 200 && (kind === "upload" || kind === "complete"))
                this.media.confirmed(path[0] ?? "");
        }
        record.answeredAt = Date.now();
        strikes("answered");
    }

    /** The same instants of the storage, which waits for the answer. */
    #storageGoesOn(instant: StorageInstant, underWay: Map<number, RecordedRequest>): boolean {
        const { request, phase, key, isSigned, hasToken } = instant;
        const known = underWay.get(request);
        const record = known ?? { kind: "storage", path: `/${key}`, at: Date.now() };
        if (known === undefined) {
            underWay.set(request, record);
            this.requests.push(record);
            if (!isSigned) this.media.complaints.push(`${key} came to the storage by an address that nobody signed`);
            if (hasToken) this.media.complaints.push(`${key} came to the storage with an access token`);
        }
        if (phase === "handled") {
            record.status = 200;
            this.media.stored(key.split("/").at(-1) ?? "");
        }
        if (phase === "answered") record.answeredAt = Date.now();
        if (this.#strike("storage", phase)) return false;
        return phase !== "handled" || !this.#losesAnswer("storage");
    }

    #fails(kind: Kind): Answer | undefined {
        const mayFail = kind === "upload" || kind === "complete" || kind === "fetch";
        if (!mayFail) return undefined;
        const isDown = kind === "fetch" && this.network.isDown;
        return isDown || this.#random.below(100) < FAILURES ? refusal(503, "M_UNKNOWN") : undefined;
    }

    #losesAnswer(kind: Kind): boolean {
        return MAY_BE_LOST.has(kind) && this.#random.below(100) < LOST_ANSWERS;
    }
}

const MAY_BE_LOST: ReadonlySet<Kind> = new Set(["send", "redact", "upload", "complete", "storage"]);
const UNRECOGNIZED = refusal(404, "M_UNRECOGNIZED");

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
