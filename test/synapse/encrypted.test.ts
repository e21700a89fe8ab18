import { createHash } from "node:crypto";
import { expect } from "chai";
import type { RemoteMessage } from "../../src/index.ts";
import { decrypted, standInCrypto } from "../support/crypto.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { clear, type EncryptedFile } from "./harness/encrypted-view.ts";
import { isUpload } from "./harness/proxy.ts";
import { download, messages, related, timeline } from "./harness/room-view.ts";
import { uploadOf } from "./harness/sent.ts";
import { type SynapseWorld, useSynapse } from "./harness/world.ts";

const CAPTIONED = { msgtype: "m.image", body: "Look!", filename: "cat.jpg", info: { mimetype: "image/jpeg" } };

describe("Synapse: an encrypted room", () => {
    const use = useSynapse();

    for (const encryption of ["spool", "two-pass"] as const) {
        it(`has of a photo, its thumbnail, name and caption nothing but ciphertext (${encryption})`, async () => {
            const world = use();
            const ann = world.ghost(`shape_${encryption}`);
            const roomId = await world.encryptedRoom(ann);
            const media = await world.component({ encryption }, { crypto: standInCrypto(roomId) });
            const [picture, thumbnail] = [someBytes(300_000), someBytes(5000)];
            const sent = await media.send(withThumbnail(world, roomId, ann, picture, thumbnail));
            await Promise.all(sent.uploads.map(({ done }) => done));

            const [event, ...more] = await timeline(world, roomId);
            expect(more).to.deep.equal([]);
            expect(event).to.include({ event_id: sent.eventId, type: "m.room.encrypted", sender: ann });
            expect(event?.content).to.have.all.keys("algorithm", "ciphertext");
            expect(await messages(world, roomId)).to.deep.equal([]);

            const { type, content } = clear(event);
            const { file, info, ...rest } = content as { file: EncryptedFile; info: Record<string, unknown> };
            const { thumbnail_file: smallFile, ...restOfInfo } = info as { thumbnail_file: EncryptedFile };
            expect(type).to.equal("m.room.message");
            expect(rest, "no url of its own").to.deep.equal({
                msgtype: "m.image",
                body: "Look!",
                filename: "cat.jpg",
            });
            expect(restOfInfo, "no url of its own").to.deep.equal({ mimetype: "image/jpeg" });
            expect([file.url, smallFile.url]).to.deep.equal(sent.uploads.map(({ contentUri }) => contentUri));
            expect(file.key.k).not.to.equal(smallFile.key.k);
            await isEncryptedFile(world, file, picture);
            await isEncryptedFile(world, smallFile, thumbnail);
            const uploads = world.proxy.exchanges.filter(isUpload);
            expect(uploads.map(({ query }) => query.get("filename"))).to.deep.equal([null, null]);
        });
    }

    it("is known by its state where message and crypto do not say so; one without it is served in the clear", async () => {
        const world = use();
        const [ann, newcomer] = [world.ghost("detect_ann"), world.ghost("detect_newcomer")];
        const [roomId, plainRoom] = [await world.encryptedRoom(ann), await world.room(ann)];
        // It says no of every room, as matrix-bot-sdk does where it could not ask.
        const media = await world.component({}, { crypto: standInCrypto() });
        const bytes = someBytes(40_000);
        const source = { kind: "http", url: world.remote.file(bytes) } as const;
        const [, sent, , plain] = await Promise.all([
            media.send(textMessage(roomId, ann, "before")),
            media.send(photoMessage(roomId, ann, source)),
            // Not in the room yet, so it may not even see that state.
            media.send(textMessage(roomId, newcomer, "after")),
            media.send(photoMessage(plainRoom, ann, source)),
        ]);
        await Promise.all([uploadOf(sent).done, uploadOf(plain).done]);

        expect(await messages(world, roomId)).to.deep.equal([]);
        const events = await timeline(world, roomId);
        expect(events.map(({ sender }) => sender)).to.deep.equal([ann, ann, newcomer]);
        const said = events.map((event) => clear(event).content["body"]);
        expect(said).to.deep.equal(["before", "cat.jpg", "after"]);
        await isEncryptedFile(world, clear(events[1]).content["file"] as EncryptedFile, bytes);

        const [inTheClear] = await timeline(world, plainRoom);
        expect(inTheClear).to.include({ type: "m.room.message" });
        expect(inTheClear?.content["url"]).to.equal(uploadOf(plain).contentUri);
        const { headers, body } = await download(world, uploadOf(plain).contentUri);
        expect(headers["content-type"]).to.equal("image/jpeg");
        expect(headers["content-disposition"]).to.contain("cat.jpg");
        expect(sha256(body)).to.equal(sha256(bytes));
    });

    it("sees what a message answers and in which thread it stands, outside the ciphertext", async () => {
        const world = use();
        const ann = world.ghost("relation");
        const roomId = await world.encryptedRoom(ann);
        const media = await world.component({}, { crypto: standInCrypto(roomId) });
        const { eventId: first } = await media.send(textMessage(roomId, ann, "first"));
        const reply = { "m.in_reply_to": { event_id: first } };
        const thread = { rel_type: "m.thread", event_id: first, is_falling_back: true, ...reply };
        const bytes = someBytes(10_000);
        const url = world.remote.file(bytes);
        const answers = [reply, thread].map((relation) =>
            photoMessage(roomId, ann, { kind: "http", url }, { content: { ...CAPTIONED, "m.relates_to": relation } }),
        );
        const [replying, threaded] = await Promise.all(answers.map((message) => media.send(message)));
        const events = await timeline(world, roomId);
        expect(events.map(({ type }) => type)).to.deep.equal(Array(3).fill("m.room.encrypted"));
        for (const [index, relation] of [reply, thread].entries()) {
            const event = events[index + 1];
            expect(event?.content).to.have.all.keys("algorithm", "ciphertext", "m.relates_to");
            expect(event?.content["m.relates_to"]).to.deep.equal(relation);
            await isEncryptedFile(world, clear(event).content["file"] as EncryptedFile, bytes);
        }
        expect(events[1]?.event_id).to.equal(replying?.eventId);
        const inThread = await related(world, roomId, first, "m.thread");
        expect(inThread.map(({ event_id }) => event_id)).to.deep.equal([threaded?.eventId]);
    });
});

function withThumbnail(
    { remote }: SynapseWorld,
    roomId: string,
    sender: string,
    picture: Buffer,
    thumbnail: Buffer,
): RemoteMessage {
    const media = [
        { at: ["url"], source: { kind: "http", url: remote.file(picture) } },
        { at: ["info", "thumbnail_url"], source: { kind: "http", url: remote.file(thumbnail) } },
    ] as const;
    return photoMessage(roomId, sender, { kind: "http", url: "" }, { content: CAPTIONED, media });
}

/** Its shape is the specification's, Synapse has its ciphertext and no word of what it is, and it decrypts to `bytes`. */
async function isEncryptedFile(world: SynapseWorld, file: EncryptedFile, bytes: Buffer): Promise<void> {
    expect(file).to.have.all.keys("v", "key", "iv", "hashes", "url");
    expect(file.v).to.equal("v2");
    expect(file.key).to.have.all.keys("kty", "alg", "ext", "k", "key_ops");
    expect(file.key).to.include({ kty: "oct", alg: "A256CTR", ext: true });
    expect(file.key["key_ops"]).to.have.members(["encrypt", "decrypt"]);
    expect(Buffer.from(file.key.k, "base64url")).to.have.length(32);
    expect(Buffer.from(file.iv, "base64")).to.have.length(16);
    const { status, headers, body } = await download(world, file.url);
    expect(status).to.equal(200);
    expect(headers["content-type"]).to.equal("application/octet-stream");
    expect(headers["content-disposition"]).to.equal("attachment");
    expect(file.hashes.sha256).to.equal(createHash("sha256").update(body).digest("base64").replace(/=+$/, ""));
    expect(body.length).to.equal(bytes.length);
    expect(sha256(body)).not.to.equal(sha256(bytes));
    expect(sha256(await decrypted(body, file))).to.equal(sha256(bytes));
}
