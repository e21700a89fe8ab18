import { expect } from "chai";
import { ERRORS, type MediaError, type RemoteMessage, type SentMessage } from "../../src/index.ts";
import { decrypted, standInCrypto } from "../support/crypto.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { clear, clearEdit, type EncryptedFile } from "./harness/encrypted-view.ts";
import {
    bundledEdit,
    download,
    eventById,
    messages,
    originals,
    related,
    shownInstead,
    timeline,
} from "./harness/room-view.ts";
import { uploadOf } from "./harness/sent.ts";
import { type SynapseWorld, useSynapse } from "./harness/world.ts";

const CAPTIONED = { msgtype: "m.image", body: "Look!", filename: "cat.jpg", info: { mimetype: "image/jpeg" } };
const SAID = `cat.jpg could not be bridged: ${ERRORS.SOURCE_NOT_FOUND.room}\n\nLook!`;
const NOTICE = { msgtype: "m.notice", body: SAID };

describe("Synapse: a file that its source no longer has", () => {
    const use = useSynapse();

    it("is told by its sender in place of the photo, with its name and its caption", async () => {
        const world = use();
        const ann = world.ghost("gone");
        const roomId = await world.room(ann);
        const media = await world.component();
        const sent = await media.send(captioned(roomId, ann, `${world.remote.url}/gone`));
        await media.send(textMessage(roomId, ann, "after"));
        expect(await failure(sent)).to.equal("SOURCE_NOT_FOUND");
        await until(() => shownInstead(world, roomId, sent.eventId));

        const [edit, ...more] = await related(world, roomId, sent.eventId);
        expect(more).to.deep.equal([]);
        expect(edit).to.include({ type: "m.room.message", sender: ann });
        expect(edit?.content).to.deep.equal({
            msgtype: "m.notice",
            body: `* ${SAID}`,
            "m.new_content": NOTICE,
            "m.relates_to": { rel_type: "m.replace", event_id: sent.eventId },
        });
        expect(bundledEdit(await eventById(world, roomId, sent.eventId))?.event_id).to.equal(edit?.event_id);
        const [original, ...others] = await originals(world, roomId);
        expect(original?.content).to.deep.equal({ ...CAPTIONED, url: uploadOf(sent).contentUri });
        expect(others.map(({ content }) => content["body"])).to.deep.equal(["after"]);
    });

    it("is shown at its first address after all when it comes back", async () => {
        const world = use();
        const ann = world.ghost("back");
        const roomId = await world.room(ann);
        const media = await world.component();
        const sent = await media.send(captioned(roomId, ann, `${world.remote.url}/back`));
        await until(() => shownInstead(world, roomId, sent.eventId));
        const bytes = appears(world, "/back");
        await media.retry(uploadOf(sent).jobId);
        const { contentUri: url } = uploadOf(sent);
        await until(async () => (await shownInstead(world, roomId, sent.eventId))?.["msgtype"] === "m.image");
        expect(await shownInstead(world, roomId, sent.eventId)).to.deep.equal({ ...CAPTIONED, url });
        const edits = await related(world, roomId, sent.eventId);
        expect(edits.map(({ content }) => content["msgtype"])).to.deep.equal(["m.notice", "m.image"]);
        expect(sha256((await download(world, url)).body)).to.equal(sha256(bytes));
    });

    it("which is only the thumbnail is taken out, and the photo stays", async () => {
        const world = use();
        const ann = world.ghost("thumbnail");
        const roomId = await world.room(ann);
        const media = await world.component();
        const bytes = someBytes(10_000);
        const sent = await media.send({
            ...captioned(roomId, ann, ""),
            media: [
                { at: ["url"], source: { kind: "http", url: world.remote.file(bytes) } },
                { at: ["info", "thumbnail_url"], source: { kind: "http", url: `${world.remote.url}/gone` } },
            ],
        });
        const { contentUri: url } = uploadOf(sent);
        const shown = await until(() => shownInstead(world, roomId, sent.eventId));
        expect(shown).to.deep.equal({ ...CAPTIONED, url });
        await uploadOf(sent).done;
        expect(sha256((await download(world, url)).body)).to.equal(sha256(bytes));
        expect(await related(world, roomId, sent.eventId)).to.have.length(1);
    });

    it("and was a sticker is told in a reply, because no edit makes a message of a sticker", async () => {
        const world = use();
        const ann = world.ghost("sticker");
        const roomId = await world.room(ann);
        const media = await world.component();
        const content = { body: "a cat", info: {} };
        const message = captioned(roomId, ann, `${world.remote.url}/gone`);
        const sent = await media.send({ ...message, content, eventType: "m.sticker" });
        const [notice] = await until(async () => {
            const found = await messages(world, roomId);
            return found.length > 0 ? found : undefined;
        });
        expect(notice?.sender).to.equal(ann);
        expect(notice?.content).to.deep.equal({
            msgtype: "m.notice",
            body: `a cat could not be bridged: ${ERRORS.SOURCE_NOT_FOUND.room}`,
            "m.relates_to": { "m.in_reply_to": { event_id: sent.eventId } },
        });
        const sticker = await eventById(world, roomId, sent.eventId);
        expect(sticker).to.include({ type: "m.sticker", sender: ann });
        expect(sticker.content).to.deep.equal({ ...content, url: uploadOf(sent).contentUri });
        expect(bundledEdit(sticker)).to.equal(undefined);
    });

    it("in an encrypted room is told by an encrypted edit, where it went after its event was sent", async () => {
        const world = use();
        const ann = world.ghost("encrypted_later");
        const roomId = await world.encryptedRoom(ann);
        const media = await world.component({ encryption: "two-pass" }, { crypto: standInCrypto(roomId) });
        let reads = 0;
        const url = world.remote.on("/once", (_request, response) => {
            if (reads++ === 0) response.writeHead(200).end(someBytes(10_000));
            else response.writeHead(404).end();
        });
        const sent = await media.send(captioned(roomId, ann, url));
        await media.send(textMessage(roomId, ann, "after"));
        expect(await failure(sent)).to.equal("SOURCE_NOT_FOUND");
        const edit = await onlyEdit(world, roomId, ann, sent.eventId);
        // Its length is known since it was read for the event.
        const said = SAID.replace("cat.jpg", "cat.jpg (9.8 KiB)");
        expect(clearEdit(edit)).to.deep.equal({ ...NOTICE, body: said });
        const [original] = await timeline(world, roomId);
        expect(clear(original).content).to.deep.include({ msgtype: "m.image", body: "Look!", filename: "cat.jpg" });
        expect(await messages(world, roomId), "in the clear").to.deep.equal([]);
    });

    it("in an encrypted room is told by the event itself, where it went before; and shown by an encrypted edit when it comes", async () => {
        const world = use();
        const ann = world.ghost("encrypted_before");
        const roomId = await world.encryptedRoom(ann);
        const media = await world.component({}, { crypto: standInCrypto(roomId) });
        const sent = await media.send(captioned(roomId, ann, `${world.remote.url}/encrypted-back`));
        const [event, ...others] = await timeline(world, roomId);
        expect(others).to.deep.equal([]);
        expect(event).to.include({ event_id: sent.eventId, type: "m.room.encrypted", sender: ann });
        expect(event?.content).to.have.all.keys("algorithm", "ciphertext");
        expect(clear(event)).to.deep.include({ type: "m.room.message", content: NOTICE });

        const bytes = appears(world, "/encrypted-back");
        await media.retry(sent.uploads[0]?.jobId ?? "");
        const shown = clearEdit(await onlyEdit(world, roomId, ann, sent.eventId));
        expect(shown).to.deep.include(CAPTIONED).and.not.to.have.property("url");
        const file = shown["file"] as EncryptedFile;
        const { status, body } = await download(world, file.url);
        expect(status).to.equal(200);
        expect(sha256(await decrypted(body, file))).to.equal(sha256(bytes));
        expect(await messages(world, roomId), "in the clear").to.deep.equal([]);
    });
});

function captioned(roomId: string, sender: string, url: string): RemoteMessage {
    return photoMessage(roomId, sender, { kind: "http", url }, { content: CAPTIONED });
}

function failure({ uploads: [upload] }: SentMessage): Promise<string | undefined> {
    return upload!.done.then(
        () => undefined,
        ({ code }: MediaError) => code,
    );
}

/** The source has the file again, or at last. */
function appears(world: SynapseWorld, path: string): Buffer {
    const bytes = someBytes(20_000);
    world.remote.on(path, (_request, response) => response.writeHead(200).end(bytes));
    return bytes;
}

/** Waits for an encrypted event's edit: the only one, by its sender, encrypted itself but for whose edit it is. */
async function onlyEdit(world: SynapseWorld, roomId: string, sender: string, eventId: string) {
    await until(async () => bundledEdit(await eventById(world, roomId, eventId)));
    const [edit, ...more] = await related(world, roomId, eventId);
    expect(more).to.deep.equal([]);
    expect(edit).to.include({ type: "m.room.encrypted", sender });
    expect(edit?.content).to.have.all.keys("algorithm", "ciphertext", "m.relates_to");
    expect(edit?.content["m.relates_to"]).to.deep.equal({ rel_type: "m.replace", event_id: eventId });
    return edit;
}
