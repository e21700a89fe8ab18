import { writeFile } from "node:fs/promises";
import { inspect } from "node:util";
import { Registry } from "prom-client";
import {
    type BridgeLike,
    BridgeMedia,
    type IntentLike,
    type Logger,
    MediaError,
    type MediaItem,
    type MediaSource,
} from "../../src/index.ts";
import { standInCrypto, withCrypto } from "./crypto.ts";
import { secretForms } from "./secret-forms.ts";
import { intentOf, plainBridge } from "./world.ts";

/** A file that can be said in JSON, and how it is to be sent. */
export interface CanaryItem extends Pick<MediaItem, "probeHeaders" | "size"> {
    readonly source: Exclude<MediaSource, { kind: "buffer" | "stream" }>;
    /** Also by `upload()`, `avatar()` and `roomAvatar()`. */
    readonly everyWay?: boolean;
}

/**
 * A bridge in a process of its own that shows all it can: every log line, error, job and metric goes to stdout, inspected
 * to the last level, as the most careless logger would do it. What it is to do comes as JSON in its first argument.
 */
export interface CanaryPlan {
    readonly homeserverUrl: string;
    readonly accessToken: string;
    readonly dataDir: string;
    readonly bot: string;
    readonly sender: string;
    readonly roomId: string;
    readonly items: readonly CanaryItem[];
    /** What the bridge's own functions (connectors, `describe`, `onFailure`, a listener) throw and hand out. */
    readonly secret: string;
    readonly allowPrivateAddresses: boolean;
    /** A room that the sender is to get into by itself, while its SDK fails and throws all it has. */
    readonly closedRoomId?: string | undefined;
    /** The room is encrypted, its files by this strategy; every other event's crypto fails and quotes what it was given. */
    readonly encryption?: "spool" | "two-pass" | undefined;
    /** Where the content goes that the failing crypto was given last. */
    readonly quotedFile?: string | undefined;
}

const plan = JSON.parse(process.argv[2] ?? "{}") as CanaryPlan;

function show(what: string, value: unknown): void {
    console.log(what, inspect(value, { depth: null, maxStringLength: null, maxArrayLength: null }));
}

const logger = Object.fromEntries(
    (["debug", "info", "warn", "error"] as const).map((level) => [
        level,
        (text: string, details?: object) => show(`${level} ${text}`, details),
    ]),
) as unknown as Logger;

const { encryption } = plan;
const crypto = standInCrypto(plan.roomId);
let quoted = "";
const quoting = {
    ...crypto,
    encryptRoomEvent: (roomId: string, type: string, content: object) => {
        const text = JSON.stringify(content);
        if (text.includes("quoted") && !text.includes("m.notice")) {
            quoted = text;
            return Promise.reject(new Error(`cannot encrypt ${text} as ${type}`));
        }
        return crypto.encryptRoomEvent(roomId, type, content);
    },
};

const quotation = [
    `GET https://files.example/x?sig=${plan.secret} with Bearer ${plan.secret}`,
    ...secretForms(plan.secret),
].join("; ");
/** Throws what functions of others throw: now an error that quotes a request, now something that is none and holds it. */
function failing(): () => never {
    let calls = 0;
    return () => {
        if (++calls % 2 === 1) throw new Error(quotation, { cause: { request: quotation } });
        // oxlint-disable-next-line typescript/only-throw-error
        throw {
            statusCode: 502,
            body: plan.secret,
            request: { headers: { Authorization: `Bearer ${plan.accessToken}` } },
        };
    };
}

/** An SDK's way into a room fails as matrix-bot-sdk's does, which throws a proxy's answer as a whole, and as others do. */
function withFailingJoin(bridge: BridgeLike): BridgeLike {
    const join = failing();
    return {
        getIntent: (userId = plan.bot): IntentLike => ({ ...intentOf(bridge, userId), join: async () => join() }),
    };
}

const plain = withFailingJoin(plainBridge(plan.homeserverUrl, plan.bot, plan.accessToken));

const opening = failing();
const media = new BridgeMedia(encryption === undefined ? plain : withCrypto(plain, () => quoting), {
    ...(encryption !== undefined && { encryption }),
    dataDir: plan.dataDir,
    allowPrivateAddresses: plan.allowPrivateAddresses,
    maxAttempts: 2,
    timeLimits: { headersMs: 1000, idleMs: 1000 },
    logger,
    describe: failing(),
    onFailure: failing(),
    connectors: {
        secretive: {
            open: () => Promise.reject(new Error(`cannot open with ${plan.secret}`)),
            refresh: () => Promise.resolve({ token: plan.secret }),
        },
        quoting: {
            open: () => Promise.reject(new MediaError("SOURCE_UNAVAILABLE", { detail: quotation })),
            publicUrl: failing(),
        },
        throwing: { open: async () => opening(), publicUrl: failing() },
    },
});
media.on("job", (job) => show("job", job));
const listening = failing();
media.on("job", () => listening());
const registry = new Registry();
media.registerMetrics(registry);
await media.start();

/** Shows what a call gives, or how it fails. */
async function tell(what: string, call: () => Promise<unknown>): Promise<void> {
    try {
        show(what, await call());
    } catch (error) {
        show(`${what} failed`, error);
        if (error instanceof Error) console.log(error.message, error.stack, JSON.stringify(error));
    }
}

const { sender, roomId } = plan;
if (plan.closedRoomId !== undefined) {
    const text = {
        id: "canary/join",
        roomId: plan.closedRoomId,
        sender,
        content: { msgtype: "m.text", body: "hello" },
    };
    await tell("sent without being there", () => media.send(text));
}
for (const [index, { source, everyWay = false, ...given }] of plan.items.entries()) {
    const id = `canary/${index}`;
    await tell("sent", async () => {
        const { uploads, ...sent } = await media.send({
            id,
            roomId,
            sender,
            content: {
                msgtype: "m.image",
                body: encryption !== undefined && index % 2 === 1 ? "quoted" : "cat.jpg",
                info: { mimetype: "image/jpeg" },
            },
            media: [{ at: ["url"], source, ...given }],
        });
        for (const { done } of uploads) await tell("done", () => done);
        return { ...sent, uploads };
    });
    if (!everyWay) continue;
    await tell("edited", () => media.edit(id, { id: `${id}/edit`, content: { msgtype: "m.image", body: "dog.jpg" } }));
    await Promise.all([
        tell("uploaded", async () => (await media.upload(source, { userId: sender })).done),
        tell("pictured", () => media.avatar(sender, source)),
        tell("pictured", () => media.roomAvatar(roomId, source)),
    ]);
}
// What is refused at the door quotes what it refuses.
for (const { source } of plan.items) {
    const nowhere = { id: "", roomId, sender, content: {}, media: [{ at: [], source }] };
    await tell("refused", () => media.send(nowhere));
    await tell("refused", () => media.edit("canary/0", { id: "", content: { body: plan.secret, source } }));
    await tell("refused", () => media.upload({ ...source, kind: "http", url: plan.secret }, { userId: plan.secret }));
    await tell("refused", () => media.avatar(plan.secret, source));
}
for await (const job of media.jobs()) show("listed", job);
console.log(await registry.metrics());
await media.close();
// Beside what it writes: the keys of an event that never was sent, for the test to look for.
if (plan.quotedFile !== undefined) await writeFile(plan.quotedFile, quoted);
console.log("the end");
