import { createRequire } from "node:module";
import type { Appservice } from "matrix-bot-sdk";
import { serveContestant } from "./contestant.ts";
import { Lanes } from "./lanes.ts";
import { contentOf, MIMETYPE } from "./message.ts";
import { registrationFor } from "./registration.ts";
import { wholeFile } from "./remote-file.ts";

/** Upload, then send: the whole file into memory, `uploadContent`, the event; one message of a room after the other. */
const sdk = createRequire(import.meta.url)("matrix-bot-sdk") as typeof import("matrix-bot-sdk");
const lanes = new Lanes();
let appservice: Appservice | undefined;

serveContestant({
    async open({ homeserverUrl, accessToken, serverName }) {
        // It would tell of each ghost that the homeserver knows already.
        sdk.LogService.setLogger({ info() {}, warn() {}, error() {}, debug() {}, trace() {} });
        appservice = new sdk.Appservice({
            port: 0,
            bindAddress: "127.0.0.1",
            homeserverName: serverName,
            homeserverUrl,
            registration: registrationFor(accessToken),
            storage: new sdk.MemoryStorageProvider(),
        });
    },
    async deliver(message) {
        const { roomId, sender, key, file } = message;
        const intent = appservice?.getIntentForUserId(sender);
        await lanes.run(roomId, async () => {
            const content = contentOf(message);
            if (file === undefined) return intent?.sendEvent(roomId, content);
            const bytes = await wholeFile(file.url);
            const url = await intent?.underlyingClient.uploadContent(bytes, MIMETYPE, key);
            return intent?.sendEvent(roomId, { ...content, url });
        });
    },
});
