import type { BridgeMedia } from "../built.ts";
import { loadBuilt } from "../built.ts";
import { serveContestant } from "./contestant.ts";
import { contentOf } from "./message.ts";

/** This project: `send()`, and the file behind it. */
let media: BridgeMedia | undefined;

serveContestant({
    async open({ homeserverUrl, accessToken, serverName, dataDir, concurrency }) {
        const { BridgeMedia } = await loadBuilt();
        const matrixClient = { homeserverUrl, accessToken };
        const bridge = {
            getIntent: (userId = `@bot:${serverName}`) => ({ userId, matrixClient, ensureRegistered, join }),
        };
        media = new BridgeMedia(bridge, { dataDir, concurrency, allowPrivateAddresses: true });
        await media.start();
    },
    async deliver(message) {
        const { key, roomId, sender, file } = message;
        const sent = await media?.send({
            id: key,
            roomId,
            sender,
            content: contentOf(message),
            ...(file !== undefined && { media: [{ at: ["url"], source: { kind: "http", url: file.url } }] }),
        });
        for (const { done } of sent?.uploads ?? []) {
            const { state } = await done;
            if (state !== "done") throw new Error(`the upload ended ${state}`);
        }
    },
});

/** The homeserver knows the ghosts, and they are in their rooms. */
async function ensureRegistered(): Promise<void> {}
async function join(): Promise<void> {}
