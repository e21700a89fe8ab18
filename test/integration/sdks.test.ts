import * as appserviceBridge from "matrix-appservice-bridge";
import * as botSdk from "matrix-bot-sdk";
import { BridgeMedia } from "../../src/index.ts";
import { describeAppserviceBridge, describeRegistry } from "../sdks/bridge-scenario.ts";
import { openAppservice } from "../sdks/bridges.ts";
import { describeSdk } from "../sdks/scenario.ts";

describe("with matrix-appservice-bridge's own Bridge", () => {
    describeAppserviceBridge(appserviceBridge, { BridgeMedia });
});

describe("with matrix-bot-sdk's own Appservice", () => {
    describeSdk({ BridgeMedia, open: (world) => openAppservice(botSdk, world) }, describeRegistry);
});
