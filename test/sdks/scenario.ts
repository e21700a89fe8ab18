import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import type { BridgeLike, BridgeMedia } from "../../src/index.ts";
import { bodies, download, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { type Remote, sha256, someBytes, startRemote } from "../support/remote.ts";
import { openWorld, type World } from "../support/world.ts";

/** What a bridge does with an SDK's real objects, whatever SDK it is. */
export interface SdkUnderTest {
    /** The component: from the sources, or from the packed package. */
    readonly BridgeMedia: typeof BridgeMedia;
    open(world: World): Promise<SdkBridge>;
}

export interface SdkBridge {
    readonly bridge: BridgeLike;
    /** Sends an event as bridges do without the component, and returns its id. */
    sendEvent(userId: string, roomId: string, content: Record<string, unknown>): Promise<string>;
    close(): Promise<void>;
}

const PRIVATE = { preset: "private_chat" };

/**
 * The tests of one SDK, inside a `describe`.
 * @param more Adds tests of its own, to which `opened()` gives what was opened for the test that runs.
 */
export function describeSdk(sdk: SdkUnderTest, more?: (opened: () => Opened) => void): void {
    let opened: Opened;
    beforeEach(async () => {
        opened = await open(sdk);
    });
    afterEach(() => opened.close());

    it("sends text and photos of ghosts that were never registered, in the order of the calls", async () => {
        const { world, remote, media } = opened;
        const roomId = await world.room();
        const bytes = someBytes(50_000);
        const url = remote.file(bytes);
        const expected = Array.from({ length: 12 }, (_, index) => `message ${index}`);
        const sent = await Promise.all(
            expected.map((body, index) => {
                const sender = world.ghost(index % 2 === 0 ? "alice" : "bob");
                const content = { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } };
                return index % 3 === 1
                    ? media.send(photoMessage(roomId, sender, { kind: "http", url }, { content }))
                    : media.send(textMessage(roomId, sender, body));
            }),
        );
        expect(bodies(world.homeserver, roomId)).to.deep.equal(expected);
        expect(new Set(messages(world.homeserver, roomId).map(({ sender }) => sender))).to.have.all.keys(
            world.ghost("alice"),
            world.ghost("bob"),
        );
        for (const upload of sent.flatMap(({ uploads }) => uploads)) {
            await upload.done;
            const { body } = await download(world.homeserver, String(upload.contentUri));
            expect(sha256(body)).to.equal(sha256(bytes));
        }
    });

    it("brings a ghost that was kicked back into a public room", async () => {
        const { world, media } = opened;
        const alice = world.ghost("alice");
        const roomId = await world.room();
        await media.send(textMessage(roomId, alice, "before"));
        await kick(world, roomId, alice);
        await media.send(textMessage(roomId, alice, "after"));
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["before", "after"]);
    });

    it("has the bot invite a ghost into a private room, and again after it was kicked", async () => {
        const { world, remote, media } = opened;
        const alice = world.ghost("alice");
        const { room_id: created } = await world.request(world.bot, "POST", "/createRoom", PRIVATE);
        const roomId = String(created);
        await media.send(textMessage(roomId, alice, "let in"));
        await kick(world, roomId, alice);
        const url = remote.file(someBytes(1000));
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        expect(await sent.uploads[0]?.done).to.include({ state: "done", uploader: alice });
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["let in", "cat.jpg"]);
    });

    it("refuses with FORBIDDEN where the bot cannot invite either", async () => {
        const { world, media } = opened;
        const { room_id: roomId } = await asStranger(world, "/createRoom", PRIVATE);
        const sending = media.send(textMessage(String(roomId), world.ghost("alice"), "never"));
        const refusal = await sending.catch((error: unknown) => error);
        expect(refusal).to.have.property("code", "FORBIDDEN");
    });

    it("gives upload() an MXC at once, which the SDK's own client sends", async () => {
        const { world, media, sdkBridge } = opened;
        const alice = world.ghost("alice");
        const roomId = await world.room();
        const data = someBytes(200_000);
        const upload = await media.upload({ kind: "buffer", data }, { userId: alice, mimetype: "image/png" });
        const content = { msgtype: "m.image", body: "a.png", url: upload.contentUri };
        const eventId = await sdkBridge.sendEvent(alice, roomId, content);
        expect(messages(world.homeserver, roomId).map(({ event_id: id }) => id)).to.deep.equal([eventId]);
        await upload.done;
        expect(sha256((await download(world.homeserver, upload.contentUri)).body)).to.equal(sha256(data));
    });

    it("uploads as the bot, where that is chosen", async () => {
        const { world, remote, component } = opened;
        const media = component({ uploadAs: "bot" });
        await media.start();
        const roomId = await world.room();
        const url = remote.file(someBytes(1000));
        const sent = await media.send(photoMessage(roomId, world.ghost("alice"), { kind: "http", url }));
        expect(await sent.uploads[0]?.done).to.include({ state: "done", uploader: world.bot });
        expect(messages(world.homeserver, roomId)[0]?.sender).to.equal(world.ghost("alice"));
    });

    more?.(() => opened);
}

export interface Opened {
    readonly world: World;
    readonly remote: Remote;
    readonly sdkBridge: SdkBridge;
    /** Started, on a data directory of its own. */
    readonly media: BridgeMedia;
    /** Another one, not started. */
    readonly component: (options?: { uploadAs?: "bot" }) => BridgeMedia;
    close(): Promise<void>;
}

async function open(sdk: SdkUnderTest): Promise<Opened> {
    const world = await openWorld();
    const remote = await startRemote();
    const sdkBridge = await sdk.open(world);
    const directory = await mkdtemp(join(tmpdir(), "sdk-"));
    const components: BridgeMedia[] = [];
    const component: Opened["component"] = (options = {}) => {
        const dataDir = join(directory, String(components.length));
        const media = new sdk.BridgeMedia(sdkBridge.bridge, { dataDir, allowPrivateAddresses: true, ...options });
        components.push(media);
        return media;
    };
    const media = component();
    await media.start();
    return {
        world,
        remote,
        sdkBridge,
        media,
        component,
        async close() {
            for (const each of components) await each.close();
            await sdkBridge.close();
            await remote.close();
            await world.close();
            await rm(directory, { recursive: true, force: true });
        },
    };
}

async function kick(world: World, roomId: string, userId: string): Promise<void> {
    await world.request(world.bot, "POST", `/rooms/${encodeURIComponent(roomId)}/kick`, { user_id: userId });
}

/** A request of a user that the appservice has nothing to do with. */
async function asStranger(world: World, path: string, body: object): Promise<Record<string, unknown>> {
    const { accessToken } = world.homeserver.createUser("stranger");
    const answer = await fetch(`${world.homeserver.url}/_matrix/client/v3${path}`, {
        method: "POST",
        headers: { authorization: `Bearer ${accessToken}`, "content-type": "application/json" },
        body: JSON.stringify(body),
    });
    return (await answer.json()) as Record<string, unknown>;
}
