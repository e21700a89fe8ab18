import { createInterface } from "node:readline";
import { BridgeMedia } from "../../src/index.ts";
import { textMessage } from "./messages.ts";
import { plainBridge } from "./world.ts";

/** A bridge in a process of its own that has the data directory open: says so, and sends each line that it is given. */
export interface LockPlan {
    readonly homeserverUrl: string;
    readonly dataDir: string;
    readonly bot: string;
    readonly ghost: string;
    readonly roomId: string;
}

const { homeserverUrl, dataDir, bot, ghost, roomId } = JSON.parse(process.argv[2] ?? "{}") as LockPlan;
const media = new BridgeMedia(plainBridge(homeserverUrl, bot), { dataDir, allowPrivateAddresses: true });
try {
    await media.start();
    process.stdout.write("started\n");
} catch (error) {
    process.stdout.write(`${(error as { code?: string }).code}\n`);
    process.exit();
}
for await (const body of createInterface({ input: process.stdin })) {
    await media.send(textMessage(roomId, ghost, body, { id: body }));
    process.stdout.write("sent\n");
}
await media.close();
process.exit();
