import { writeFile } from "node:fs/promises";
import { inspect } from "node:util";
import { Registry } from "prom-client";
import { BridgeMedia, type Logger, MediaError, type MediaSource } from "../../src/index.ts";
import { standInCrypto, withCrypto } from "./crypto.ts";
import { plainBridge } from "./world.ts";

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
    readonly sources: readonly Exclude<MediaSource, { kind: "buffer" | "stream" }>[];
    /** What the connector `secretive` throws and hands out. */
    readonly secret: string;
    readonly allowPrivateAddresses: boolean;
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
const plain = plainBridge(plan.homeserverUrl, plan.bot, plan.accessToken);

const media = new BridgeMedia(encryption === undefined ? plain : withCrypto(plain, () => quoting), {
    ...(encryption !== undefined && { encryption }),
    dataDir: plan.dataDir,
    allowPrivateAddresses: plan.allowPrivateAddresses,
    maxAttempts: 2,
    timeLimits: { headersMs: 1000, idleMs: 1000 },
    logger,
    connectors: {
        secretive: {
            open: () => Promise.reject(new Error(`cannot open with ${plan.secret}`)),
            refresh: () => Promise.resolve({ token: plan.secret }),
        },
        quoting: {
            open: () => {
                const detail = `GET https://files.example/x?sig=${plan.secret} with Bearer ${plan.secret}`;
                return Promise.reject(new MediaError("SOURCE_UNAVAILABLE", { detail }));
            },
        },
    },
});
media.on("job", (job) => show("job", job));
const registry = new Registry();
media.registerMetrics(registry);
await media.start();
for (const [index, source] of plan.sources.entries()) {
    try {
        const sent = await media.send({
            id: `canary/${index}`,
            roomId: plan.roomId,
            sender: plan.sender,
            content: {
                msgtype: "m.image",
                body: encryption !== undefined && index % 2 === 1 ? "quoted" : "cat.jpg",
                info: { mimetype: "image/jpeg" },
            },
            media: [{ at: ["url"], source }],
        });
        show("sent", sent);
        for (const { done } of sent.uploads) show("done", await done);
    } catch (error) {
        show("error", error);
        if (error instanceof Error) console.log(error.message, error.stack, JSON.stringify(error));
    }
}
// What is refused at the door quotes what it refuses.
for (const source of plan.sources) {
    await media
        .send({ id: "", roomId: plan.roomId, sender: plan.sender, content: {}, media: [{ at: [], source }] })
        .catch((error: unknown) => show("refused", error));
}
for await (const job of media.jobs()) show("listed", job);
console.log(await registry.metrics());
await media.close();
// Beside what it writes: the keys of an event that never was sent, for the test to look for.
if (plan.quotedFile !== undefined) await writeFile(plan.quotedFile, quoted);
console.log("the end");
