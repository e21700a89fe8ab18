import { expect } from "chai";
import { Registry } from "prom-client";
import { bodies, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { type AppserviceBridgeModule, type OpenBridge, openAppserviceBridge } from "./bridges.ts";
import { describeSdk, type Opened, type SdkUnderTest } from "./scenario.ts";

/** The scenario for matrix-appservice-bridge, and what only it has: escaped user ids, and metrics. */
export function describeAppserviceBridge(sdk: AppserviceBridgeModule, parts: Pick<SdkUnderTest, "BridgeMedia">): void {
    describeSdk({ ...parts, open: (world) => openAppserviceBridge(sdk, world) }, (opened) => {
        it("sends as the user id that the bridge makes of a name", async () => {
            const { world, media } = opened();
            const roomId = await world.room();
            await media.send(textMessage(roomId, world.ghost("süß"), "escaped"));
            expect(messages(world.homeserver, roomId)[0]?.sender).to.equal(world.ghost("s=fc=df"));
            expect(bodies(world.homeserver, roomId)).to.deep.equal(["escaped"]);
        });

        it("puts its metrics beside the bridge's own", async () => {
            const { sdkBridge, media, world, remote } = opened();
            const registry = new Registry();
            const metrics = (sdkBridge as OpenBridge).bridge.getPrometheusMetrics(false, registry);
            media.registerMetrics(metrics);
            await sendBoth({ media, world, remote });
            await metrics.refresh();
            expectMetrics(await registry.metrics());
        });
    });
}

/** What every SDK's bridge can have: the metrics in a registry of its own. */
export function describeRegistry(opened: () => Opened): void {
    it("puts its metrics into a plain prom-client registry", async () => {
        const { media, world, remote } = opened();
        const registry = new Registry();
        media.registerMetrics(registry);
        await sendBoth({ media, world, remote });
        expectMetrics(await registry.metrics());
    });
}

async function sendBoth({ media, world, remote }: Pick<Opened, "media" | "world" | "remote">): Promise<void> {
    const alice = world.ghost("alice");
    const roomId = await world.room();
    await media.send(textMessage(roomId, alice, "text"));
    const url = remote.file(someBytes(12_345));
    const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
    await sent.uploads[0]?.done;
}

function expectMetrics(text: string): void {
    expect(text).to.include('bridge_media_messages_total{outcome="sent"} 2');
    expect(text).to.include('bridge_media_jobs_finished_total{outcome="done"} 1');
    expect(text).to.include("bridge_media_uploaded_bytes_total 12345");
    expect(text).to.include('bridge_media_send_seconds_count{kind="media"} 1');
    expect(text).to.include("bridge_media_pending_messages 0");
    expect(text).to.match(/^bridge_media_reservations \d+$/m);
}
