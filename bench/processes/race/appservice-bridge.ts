import { createRequire } from "node:module";
import type { Bridge } from "matrix-appservice-bridge";
import { serveContestant } from "./contestant.ts";
import { Lanes } from "./lanes.ts";
import { contentOf, MIMETYPE } from "./message.ts";
import { registrationFor } from "./registration.ts";
import { wholeFile } from "./remote-file.ts";

/** Upload, then send, with the intent of matrix-appservice-bridge; one message of a room after the other. */
const sdk = createRequire(import.meta.url)("matrix-appservice-bridge") as typeof import("matrix-appservice-bridge");
const lanes = new Lanes();
let bridge: Bridge | undefined;

serveContestant({
    async open({ homeserverUrl, accessToken, serverName }) {
        sdk.Logger.configure({ console: "off" });
        bridge = new sdk.Bridge({
            homeserverUrl,
            domain: serverName,
            registration: sdk.AppServiceRegistration.fromObject(registrationFor(accessToken)),
            controller: { onEvent: () => {}, onLog: () => {} },
            disableStores: true,
        });
        await bridge.initialise();
    },
    async deliver(message) {
        const { roomId, sender, key, file } = message;
        const intent = bridge?.getIntent(sender);
        await lanes.run(roomId, async () => {
            const content = contentOf(message);
            if (file === undefined) return intent?.sendMessage(roomId, content);
            const bytes = await wholeFile(file.url);
            const url = await intent?.uploadContent(bytes, { type: MIMETYPE, name: key });
            return intent?.sendMessage(roomId, { ...content, url });
        });
    },
});
