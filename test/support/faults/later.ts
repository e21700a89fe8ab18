import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import type { StoredEvent } from "../../../src/dev/homeserver/index.ts";
import { type BridgeMedia, MediaError, type MessageEdit } from "../../../src/index.ts";
import { download } from "../download.ts";
import { type Remote, sha256, someBytes } from "../remote.ts";
import type { World } from "../world.ts";

/** What a bridge asks for once the room has its messages, and what the homeserver's record has to say of it. */
export type Later = "edit" | "redaction" | "picture";

export interface LaterScene {
    readonly world: World;
    readonly remote: Remote;
    readonly alice: string;
    readonly roomId: string;
    /** That becomes alice's. */
    readonly picture: Buffer;
}

export const EDIT: MessageEdit = {
    id: "edit",
    content: { msgtype: "m.image", body: "dog.jpg", info: { mimetype: "image/jpeg" } },
};

/** Resolves with the edit's event, where there is one. */
export async function ask(later: Later, media: BridgeMedia, scene: LaterScene): Promise<string | undefined> {
    if (later === "picture") {
        await setPicture(media, scene);
        return undefined;
    }
    const { eventId } = await media.edit("photo", EDIT);
    // The edit is an event of its own, and is to go too.
    if (later === "redaction") await media.cancelMessage("photo", { redact: true });
    return eventId;
}

/** As its documentation has it: called again when it rejects, where that may help. */
async function setPicture(media: BridgeMedia, { remote, alice, picture }: LaterScene): Promise<void> {
    for (;;) {
        try {
            await media.avatar(alice, { kind: "http", url: remote.file(picture) });
            return;
        } catch (error) {
            if (!(error instanceof MediaError) || !error.retryable) throw error;
            await sleep(error.retryAfterMs ?? 100);
        }
    }
}

export function redactions({ world, roomId }: Pick<LaterScene, "world" | "roomId">): StoredEvent[] {
    return world.homeserver.events(roomId).filter(({ type }) => type === "m.room.redaction");
}

/** The user's picture is the right file, which was uploaded once, however often it was to be set. */
export async function expectPicture({ world, alice, picture }: LaterScene): Promise<void> {
    const { homeserver } = world;
    const { avatar_url: mxc } = await world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}`);
    const { status, body } = await download(homeserver, String(mxc), 0);
    expect(status, "download of the picture").to.equal(200);
    expect(sha256(body), "the picture").to.equal(sha256(picture));
    const uploads = homeserver.requests.filter(({ path, user }) => user === alice && path.includes("/v3/upload/"));
    // Each may have been cut off and begun again.
    const addresses = new Set(uploads.map(({ path }) => path));
    expect(addresses.size, "addresses of the photo and of the picture").to.equal(2);
}

/** What was asked for is asked for again; an edit of what was taken back is no more to be had. */
export async function askAgain(later: Later, media: BridgeMedia, scene: LaterScene): Promise<void> {
    if (later === "edit") await ask(later, media, scene);
    if (later === "redaction") await media.cancelMessage("photo", { redact: true });
}

/** After a restart nothing goes on: another picture is set at once, and no earlier one before it. */
export async function expectSettled(media: BridgeMedia, { world, alice }: LaterScene): Promise<void> {
    const sets = (): number =>
        world.homeserver.requests.filter(({ method, path }) => method === "PUT" && path.endsWith("/avatar_url")).length;
    const before = sets();
    await media.avatar(alice, { kind: "buffer", data: someBytes(1000) });
    expect(sets() - before, "pictures set after a restart").to.equal(1);
}
