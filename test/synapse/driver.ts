import { readFileSync } from "node:fs";
import { BridgeMedia, MediaError } from "../../src/index.ts";
import { plainBridge } from "../support/world.ts";
import type { Plan, Told } from "./harness/component-process.ts";

/** The component as a process: does what the plan in the file named on the command line says, until it is killed. */

const plan = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Plan;

function tell(what: Told): void {
    process.stdout.write(`${JSON.stringify(what)}\n`);
}

// The other end is the suite's: when the suite is gone, this process has nothing to stay for.
process.stdin.once("end", () => process.exit(1)).resume();

const { homeserverUrl, accessToken, bot, dataDir, options, messages } = plan;
const media = new BridgeMedia(plainBridge(homeserverUrl, bot, accessToken), {
    dataDir,
    allowPrivateAddresses: true,
    ...options,
});
media.on("job", ({ messageId: id, state }) => tell({ kind: "job", id, state }));
await media.start();
tell({ kind: "started" });
for (const message of messages) {
    media.send(message).then(
        ({ id, eventId }) => tell({ kind: "sent", id, eventId }),
        (error: unknown) =>
            tell({ kind: "refused", id: message.id, code: error instanceof MediaError ? error.code : String(error) }),
    );
}
