import type { Bridge } from "matrix-appservice-bridge";
import type { BridgeLike } from "../../src/index.ts";
import { AS_TOKEN, type World } from "../support/world.ts";
import type { SdkBridge } from "./scenario.ts";

/** The SDKs' real bridges on a test's homeserver. The modules are handed in, because there are several versions. */

export type AppserviceBridgeModule = typeof import("matrix-appservice-bridge");
export type BotSdkModule = typeof import("matrix-bot-sdk");

const registration = {
    id: "test",
    url: "http://127.0.0.1:9",
    as_token: AS_TOKEN,
    hs_token: "hs-token-of-the-tests",
    sender_localpart: "bot",
    namespaces: {
        users: [{ exclusive: true, regex: "@ghost_.*" }],
        rooms: [],
        aliases: [],
    },
};

/** What matrix-appservice-bridge's own `Bridge` is to a test. */
export interface OpenBridge extends SdkBridge {
    readonly bridge: Bridge;
}

/** Initialised, and listening nowhere: the homeserver has nothing to say to it. */
export async function openAppserviceBridge(sdk: AppserviceBridgeModule, world: World): Promise<OpenBridge> {
    sdk.Logger.configure({ console: "off" });
    const bridge = new sdk.Bridge({
        homeserverUrl: world.homeserver.url,
        domain: world.homeserver.serverName,
        registration: sdk.AppServiceRegistration.fromObject(registration),
        controller: { onEvent: () => {}, onLog: () => {} },
        disableStores: true,
    });
    await bridge.initialise();
    return {
        bridge,
        async sendEvent(userId, roomId, content) {
            return (await bridge.getIntent(userId).sendEvent(roomId, "m.room.message", content)).event_id;
        },
        close: () => bridge.close(),
    };
}

/** matrix-bot-sdk's `Appservice`, or its vector-im fork's. */
export async function openAppservice(sdk: BotSdkModule, world: World): Promise<SdkBridge> {
    sdk.LogService.setLogger({ info() {}, warn() {}, error() {}, debug() {}, trace() {} });
    const appservice = new sdk.Appservice({
        port: 0,
        bindAddress: "127.0.0.1",
        homeserverName: world.homeserver.serverName,
        homeserverUrl: world.homeserver.url,
        registration,
        storage: new sdk.MemoryStorageProvider(),
    });
    return {
        bridge: appservice satisfies BridgeLike,
        sendEvent: (userId, roomId, content) =>
            appservice
                .getIntentForUserId(userId)
                .sendEvent(roomId, { ...content, msgtype: String(content["msgtype"]) }),
        close: async () => {},
    };
}
