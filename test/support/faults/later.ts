import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { StoredEvent } from "../../../src/dev/homeserver/index.ts";
import { type BridgeMedia, MediaError, type MediaSource, type MessageEdit } from "../../../src/index.ts";
import { download } from "../download.ts";
import { type Remote, sha256, someBytes } from "../remote.ts";
import type { World } from "../world.ts";

/** What a bridge asks for once the room has its messages, and what the homeserver's record has to say of it. */
export type Later = "edit" | "redaction" | Picture;
export type Picture = "picture" | "room picture";

export function isPicture(later: Later | undefined): later is Picture {
    return later === "picture" || later === "room picture";
}

export interface LaterScene {
    readonly world: World;
    readonly remote: Remote;
    readonly alice: string;
    readonly roomId: string;
    /** That becomes alice's or the room's. */
    readonly picture: Buffer;
}

/** The request that does. */
export const SETS_PICTURE = {
    picture: /\/profile\/.*\/avatar_url$/,
    "room picture": /\/state\/m\.room\.avatar/,
} as const;

export const EDIT: MessageEdit = {
    id: "edit",
    content: { msgtype: "m.image", body: "dog.jpg", info: { mimetype: "image/jpeg" } },
};

/** Resolves with the edit's event, where there is one. */
export async function ask(later: Later, media: BridgeMedia, scene: LaterScene): Promise<string | undefined> {
    if (isPicture(later)) {
        await setPicture(later, media, scene);
        return undefined;
    }
    const { eventId } = await media.edit("photo", EDIT);
    // The edit is an event of its own, and is to go too.
    if (later === "redaction") await media.cancelMessage("photo", { redact: true });
    return eventId;
}

/** As its documentation has it: called again when it rejects, where that may help. */
async function setPicture(of: Picture, media: BridgeMedia, scene: LaterScene): Promise<void> {
    for (;;) {
        try {
            await setOnce(of, media, scene, { kind: "http", url: scene.remote.file(scene.picture) });
            return;
        } catch (error) {
            if (!(error instanceof MediaError) || !error.retryable) throw error;
            await sleep(error.retryAfterMs ?? 100);
        }
    }
}

function setOnce(of: Picture, media: BridgeMedia, { alice, roomId }: LaterScene, source: MediaSource): Promise<string> {
    return of === "picture" ? media.avatar(alice, source) : media.roomAvatar(roomId, source);
}

export function redactions({ world, roomId }: Pick<LaterScene, "world" | "roomId">): StoredEvent[] {
    return world.homeserver.events(roomId).filter(({ type }) => type === "m.room.redaction");
}

/** It is the right file, which was uploaded once, however often it was to be set. */
export async function expectPicture(of: Picture, scene: LaterScene): Promise<void> {
    const { homeserver, bot } = scene.world;
    const isUsers = of === "picture";
    const mxc = isUsers ? await pictureOfUser(scene) : pictureOfRoom(scene);
    const { status, body } = await download(homeserver, mxc, 0);
    expect(status, "download of the picture").to.equal(200);
    expect(sha256(body), "the picture").to.equal(sha256(scene.picture));
    const uploader = isUsers ? scene.alice : bot;
    const uploads = homeserver.requests.filter(({ path, user }) => user === uploader && path.includes("/v3/upload/"));
    // Each may have been cut off and begun again. The photo is alice's too.
    const addresses = new Set(uploads.map(({ path }) => path));
    expect(addresses.size, "addresses").to.equal(isUsers ? 2 : 1);
}

async function pictureOfUser({ world, alice }: LaterScene): Promise<string> {
    const { avatar_url: mxc } = await world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}`);
    return String(mxc);
}

/** A call that is repeated may set it again, and to nothing else. */
function pictureOfRoom({ world, roomId }: LaterScene): string {
    const set = world.homeserver.events(roomId).filter(({ type }) => type === "m.room.avatar");
    const addresses = new Set(set.map(({ content }) => String(content["url"])));
    expect(addresses.size, "pictures of the room").to.equal(1);
    return [...addresses][0] ?? "";
}

/** What was asked for is asked for again; an edit of what was taken back is no more to be had. */
export async function askAgain(later: Later, media: BridgeMedia, scene: LaterScene): Promise<void> {
    if (later === "edit") await ask(later, media, scene);
    if (later === "redaction") await media.cancelMessage("photo", { redact: true });
}

/** After a restart nothing goes on: another picture is set at once, and no earlier one before it. */
export async function expectSettled(of: Picture, media: BridgeMedia, scene: LaterScene): Promise<void> {
    const sets = (): number =>
        scene.world.homeserver.requests.filter(({ method, path }) => method === "PUT" && SETS_PICTURE[of].test(path))
            .length;
    const before = sets();
    await setOnce(of, media, scene, { kind: "buffer", data: someBytes(1000) });
    expect(sets() - before, "pictures set after a restart").to.equal(1);
}
