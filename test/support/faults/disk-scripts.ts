import { expect } from "chai";
import { decrypted, readable } from "../crypto.ts";
import { bodies, download, edits, messages } from "../download.ts";
import { sha256, someBytes } from "../remote.ts";
import type { Scene } from "../scene.ts";
import { until } from "../until.ts";
import { LONG, type Script } from "./disk-life.ts";
import { redactions } from "./later.ts";
import type { Spoken, SpokenFile } from "./spoken.ts";

function spokenIn({ alice }: Scene, roomId: string) {
    const text = (body: string): Spoken => ({ id: body, roomId, sender: alice, content: { msgtype: "m.text", body } });
    const photo = (body: string, ...media: SpokenFile[]): Spoken => ({
        ...text(body),
        content: { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } },
        media,
    });
    return { text, photo };
}

async function expectFile({ homeserver }: Scene["world"], url: unknown, content: Buffer, what: string): Promise<void> {
    const { status, body } = await download(homeserver, String(url), 0);
    expect(status, what).to.equal(200);
    expect(sha256(body), what).to.equal(sha256(content));
}

const FILES = { cat: someBytes(30_000), sticker: someBytes(20_000), bytes: someBytes(10_000) };
const SHOWN = ["first", "cat", "sticker", "sticker again", "bytes", "gone", "last"];
const EDIT = { id: "edit", content: { msgtype: "m.text", body: "first, mended" } };

/** A text, files from a link and from memory, a shared file, one that fails, an edit. */
export const A_ROOM: Script = {
    async prepare(scene) {
        const { remote } = scene;
        const { text, photo } = spokenIn(scene, scene.roomId);
        const sticker = { url: remote.file(FILES.sticker), dedupeKey: "sticker" };
        const said = [
            text("first"),
            photo("cat", { url: remote.file(FILES.cat) }),
            photo("sticker", sticker),
            photo("sticker again", sticker),
            photo("bytes", { base64: FILES.bytes.toString("base64") }),
            photo("gone", { url: remote.on("/gone", (_request, response) => void response.writeHead(404).end()) }),
            text("last"),
        ];
        return { ...scene, said, encryptedRooms: [] };
    },
    calls: (bridge, { said }) => [
        ...said.map((message) => () => bridge.send(message)),
        () => bridge.edit("first", EDIT),
    ],
    async expectEverything({ world, roomId }) {
        const { homeserver } = world;
        await until(() => edits(homeserver, roomId).size === 2, LONG);
        expect(bodies(homeserver, roomId)).to.deep.equal(SHOWN);
        expect(messages(homeserver, roomId), "with the edits").to.have.length(SHOWN.length + 2);
        const shown = messages(homeserver, roomId).filter(({ content }) => !("m.new_content" in content));
        const [first, cat, sticker, again, bytes, gone] = shown;
        expect(edits(homeserver, roomId).get(first?.event_id ?? "")).to.include({ body: EDIT.content.body });
        expect(edits(homeserver, roomId).get(gone?.event_id ?? "")).to.include({ msgtype: "m.notice" });
        const files = [
            [cat, FILES.cat],
            [sticker, FILES.sticker],
            [again, FILES.sticker],
            [bytes, FILES.bytes],
        ] as const;
        for (const [event, content] of files)
            await expectFile(world, event?.content["url"], content, String(event?.content["body"]));
    },
};

const MORE = { large: someBytes(30_000), small: someBytes(3000), sealed: someBytes(20_000), picture: someBytes(4000) };
const PHOTO_EDIT = {
    id: "edit",
    content: { msgtype: "m.image", body: "pair, mended", info: { mimetype: "image/jpeg" } },
};

/** A photo with a thumbnail and its edit, a message that is taken back, an encrypted file, pictures of a user and of a room. */
export const MORE_OF_IT: Script = {
    async prepare(scene) {
        const { remote, world, alice, roomId } = scene;
        const encrypted = await world.room(alice);
        const here = spokenIn(scene, roomId);
        const there = spokenIn(scene, encrypted);
        const large = { url: remote.file(MORE.large) };
        const said = [
            here.photo("pair", large, { at: ["info", "thumbnail_url"], url: remote.file(MORE.small) }),
            there.photo("sealed", { url: remote.file(MORE.sealed) }),
            here.photo("taken back", large),
            there.text("sealed too"),
        ];
        return { ...scene, said, encryptedRooms: [encrypted] };
    },
    calls: (bridge, { said }) => [
        ...said.map((message) => () => bridge.send(message)),
        () => bridge.edit("pair", PHOTO_EDIT),
        () => bridge.redact("taken back"),
    ],
    last: (bridge, { alice, roomId, remote }) => [
        () => bridge.setPicture({ userId: alice }, remote.file(MORE.picture)),
        () => bridge.setPicture({ roomId }, remote.file(MORE.picture)),
    ],
    async expectEverything({ world, roomId, alice, encryptedRooms: [encrypted = ""] }) {
        const { homeserver } = world;
        await until(() => redactions({ world, roomId }).length > 0 && edits(homeserver, roomId).size === 1, LONG);
        const shown = messages(homeserver, roomId).filter(({ content }) => !("m.new_content" in content));
        expect(shown.map(({ content }) => content["body"])).to.deep.equal(["pair", undefined]);
        expect(messages(homeserver, roomId), "with the edit").to.have.length(3);
        const [pair, takenBack] = shown;
        expect(redactions({ world, roomId }).map(({ redacts }) => redacts)).to.deep.equal([takenBack?.event_id]);
        const { content = {} } = pair ?? {};
        await expectFile(world, content["url"], MORE.large, "the photo");
        const info = content["info"] as { readonly thumbnail_url?: string };
        await expectFile(world, info.thumbnail_url, MORE.small, "its thumbnail");
        expect(edits(homeserver, roomId).get(pair?.event_id ?? "")).to.include({ body: PHOTO_EDIT.content.body });
        const [sealed, text, ...others] = readable(homeserver, encrypted);
        expect([text?.content["body"], others]).to.deep.equal(["sealed too", []]);
        const file = sealed?.content["file"] as { readonly url: string };
        const { body } = await download(homeserver, file.url, 0);
        expect(sha256(await decrypted(body, file)), "the sealed file").to.equal(sha256(MORE.sealed));
        const profile = await world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}`);
        await expectFile(world, profile["avatar_url"], MORE.picture, "the user's picture");
        const ofRoom = homeserver.events(roomId).filter(({ type }) => type === "m.room.avatar");
        expect(ofRoom).not.to.deep.equal([]);
        for (const { content: set } of ofRoom) await expectFile(world, set["url"], MORE.picture, "the room's picture");
    },
};
