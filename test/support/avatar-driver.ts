import { BridgeMedia } from "../../src/index.ts";
import { plainBridge } from "./world.ts";

/** A bridge in a process of its own, to be killed: it asks for a user's and a room's picture, or only starts. */
export interface AvatarPlan {
    readonly homeserverUrl: string;
    readonly fileUrl: string;
    readonly dataDir: string;
    readonly bot: string;
    readonly ghost: string;
    readonly roomId: string;
    readonly asks: boolean;
}

const {
    homeserverUrl,
    fileUrl: url,
    dataDir,
    bot,
    ghost,
    roomId,
    asks,
} = JSON.parse(process.argv[2] ?? "{}") as AvatarPlan;
const media = new BridgeMedia(plainBridge(homeserverUrl, bot), { dataDir, allowPrivateAddresses: true });
await media.start();
if (asks)
    await Promise.all([media.avatar(ghost, { kind: "http", url }), media.roomAvatar(roomId, { kind: "http", url })]);
// Until it is told or made to go.
process.stdin.resume();
process.stdin.on("end", () => void media.close().then(() => process.exit()));
