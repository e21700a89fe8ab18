import { BridgeMedia, type BridgeMediaOptions, type RemoteMessage } from "../../src/index.ts";
import { standInCrypto, withCrypto } from "./crypto.ts";
import { fileOf } from "./crash-files.ts";
import { plainBridge } from "./world.ts";

/**
 * A bridge in a process of its own, to be killed: it says the same messages at every start, waits until everything
 * has ended, prints `done` and leaves. What it is to do comes as JSON in its first argument.
 */
export interface DriverPlan {
    readonly homeserverUrl: string;
    readonly remoteUrl: string;
    readonly dataDir: string;
    readonly bot: string;
    readonly ghosts: readonly string[];
    readonly rooms: readonly string[];
    readonly messagesPerRoom: number;
    /** The rooms are encrypted, the files by this strategy. */
    readonly encryption?: "spool" | "two-pass";
    readonly options?: Pick<BridgeMediaOptions, "concurrency" | "smallFileConcurrency" | "reserveAhead">;
}

const plan = JSON.parse(process.argv[2] ?? "{}") as DriverPlan;
const { encryption, dataDir } = plan;
const bridge = plainBridge(plan.homeserverUrl, plan.bot);
const crypto = standInCrypto(...plan.rooms);
const media = new BridgeMedia(encryption === undefined ? bridge : withCrypto(bridge, () => crypto), {
    dataDir,
    allowPrivateAddresses: true,
    ...plan.options,
    ...(encryption !== undefined && { encryption }),
});

await media.start();
console.log("started");
const sending = [];
for (let index = 0; index < plan.messagesPerRoom; index++) {
    for (const [room, roomId] of plan.rooms.entries()) sending.push(media.send(messageOf(room, roomId, index)));
}
for (const sent of await Promise.all(sending)) for (const { done } of sent.uploads) await done;
console.log("done");
await media.close();

function messageOf(room: number, roomId: string, index: number): RemoteMessage {
    const sender = plan.ghosts[index % plan.ghosts.length] ?? plan.bot;
    const common = { id: `r${room}/m${index}`, roomId, sender };
    if (index % 3 === 0) return { ...common, content: { msgtype: "m.text", body: `${index}` } };
    const name = `${room}-${index}`;
    const content = { msgtype: "m.file", body: `${index}`, info: { mimetype: "application/octet-stream" } };
    const source =
        index % 3 === 1
            ? ({ kind: "http", url: `${plan.remoteUrl}/${name}` } as const)
            : ({ kind: "buffer", data: fileOf(name) } as const);
    return { ...common, content, media: [{ at: ["url"], source }] };
}
