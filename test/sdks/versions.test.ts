import { createRequire } from "node:module";
import type { BridgeMedia } from "../../src/index.ts";
import { describeAppserviceBridge, describeRegistry } from "./bridge-scenario.ts";
import { type AppserviceBridgeModule, type BotSdkModule, openAppservice } from "./bridges.ts";
import { describeSdk } from "./scenario.ts";

/**
 * The scenario for the SDK that the environment names, with the packed package, both required as the CommonJS bridges of
 * today do it. `run.ts` runs this once for each SDK and Node.
 */
const load = createRequire(import.meta.url);
const { SDK = "" } = process.env;
const component = load("matrix-bridge-media") as { BridgeMedia: typeof BridgeMedia };

describe(SDK, () => {
    const sdk: unknown = load(SDK);
    if (SDK.startsWith("matrix-appservice-bridge")) {
        describeAppserviceBridge(sdk as AppserviceBridgeModule, component);
    } else {
        describeSdk({ ...component, open: (world) => openAppservice(sdk as BotSdkModule, world) }, describeRegistry);
    }
});
