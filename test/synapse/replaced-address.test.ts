import { expect } from "chai";
import type { MediaItem, RemoteMessage, SentMessage } from "../../src/index.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { gatedFile } from "./harness/gate.ts";
import {
    bundledEdit,
    download,
    eventById,
    messages,
    related,
    shownInstead,
    timeline,
    untilTakenBack,
} from "./harness/room-view.ts";
import { uploadOf } from "./harness/sent.ts";
import { type SynapseWorld, useSynapse } from "./harness/world.ts";

const CAPTIONED = { msgtype: "m.image", body: "Look!", filename: "cat.jpg", info: { mimetype: "image/jpeg" } };

describe("Synapse: an event whose address was replaced", () => {
    const use = useSynapse({ unusedExpirationMs: 3000 });

    it("is shown with the new one by /relations, /event and /messages, and is itself what it was", async () => {
        const world = use();
        const ann = world.ghost("replaced_view");
        const roomId = await world.room(ann);
        const bytes = someBytes(30_000);
        const { sent, before, url } = await replaced(world, photo(roomId, ann), bytes);
        const { eventId } = sent;
        const after = await eventById(world, roomId, eventId);
        expect(after.content).to.deep.equal(before.content);
        expect(after.content).to.deep.equal({ ...CAPTIONED, url: uploadOf(sent).contentUri });

        const [edit, ...more] = await related(world, roomId, eventId);
        expect(more).to.deep.equal([]);
        const newContent = { ...CAPTIONED, url };
        expect(edit).to.include({ type: "m.room.message", sender: ann });
        expect(edit?.content).to.deep.equal({
            ...newContent,
            body: "* Look!",
            "m.new_content": newContent,
            "m.relates_to": { rel_type: "m.replace", event_id: eventId },
        });
        expect(bundledEdit(after)?.event_id).to.equal(edit?.event_id);
        const listed = await messages(world, roomId);
        expect(listed.map(({ event_id }) => event_id)).to.deep.equal([eventId, edit?.event_id]);
        expect(listed[0]?.content).to.deep.equal(before.content);
        expect(bundledEdit(listed[0])?.event_id).to.equal(edit?.event_id);

        const { status, headers, body } = await download(world, url);
        expect(status).to.equal(200);
        expect(headers["content-type"]).to.equal("image/jpeg");
        expect(headers["content-disposition"]).to.contain("cat.jpg");
        expect(sha256(body)).to.equal(sha256(bytes));
    });

    it("keeps its thumbnail's address, its caption and what it answers, and mentions nobody anew", async () => {
        const world = use();
        const ann = world.ghost("replaced_rest");
        const roomId = await world.room(ann);
        const thumbnail = someBytes(2000);
        const { eventId: question } = await (await world.component()).send(textMessage(roomId, world.bot, "Well?"));
        const content = {
            ...CAPTIONED,
            "m.relates_to": { "m.in_reply_to": { event_id: question } },
            "m.mentions": { user_ids: [world.bot] },
        };
        const small: MediaItem = {
            at: ["info", "thumbnail_url"],
            source: { kind: "http", url: world.remote.file(thumbnail) },
        };
        const { sent, before, url } = await replaced(world, photo(roomId, ann, { content }), someBytes(30_000), [
            small,
        ]);
        const thumbnailUrl = sent.uploads[1]?.contentUri ?? "";
        const info = { mimetype: "image/jpeg", thumbnail_url: thumbnailUrl };
        const { "m.relates_to": _, ...shown } = content;
        expect(await shownInstead(world, roomId, sent.eventId)).to.deep.equal({ ...shown, info, url });
        expect(sha256((await download(world, thumbnailUrl)).body)).to.equal(sha256(thumbnail));
        const [edit] = await related(world, roomId, sent.eventId);
        expect(edit?.content["m.mentions"]).to.deep.equal({});
        expect(edit?.content["m.relates_to"]).to.deep.equal({ rel_type: "m.replace", event_id: sent.eventId });
        expect(before.content["m.relates_to"]).to.deep.equal(content["m.relates_to"]);
    });

    it("which is a sticker is edited by a sticker: Synapse takes no other for its edit", async () => {
        const world = use();
        const ann = world.ghost("replaced_sticker");
        const roomId = await world.room(ann);
        const content = { body: "a cat", info: { mimetype: "image/webp" } };
        const message = photo(roomId, ann, { content, eventType: "m.sticker" });
        const { sent, url } = await replaced(world, message, someBytes(30_000));
        expect(await shownInstead(world, roomId, sent.eventId)).to.deep.equal({ ...content, url });
        const events = await timeline(world, roomId);
        expect(events.map(({ type, sender }) => [type, sender])).to.deep.equal([
            ["m.sticker", ann],
            ["m.sticker", ann],
        ]);
    });
});

function photo(roomId: string, sender: string, extra: Partial<RemoteMessage> = {}): RemoteMessage {
    return photoMessage(roomId, sender, { kind: "http", url: "" }, { content: CAPTIONED, ...extra });
}

/** Sends a message whose file comes only after its address has ended, and waits until it is there. */
async function replaced(
    world: SynapseWorld,
    message: RemoteMessage,
    bytes: Buffer,
    others: readonly MediaItem[] = [],
): Promise<{ sent: SentMessage; before: Awaited<ReturnType<typeof eventById>>; url: string }> {
    const media = await world.component();
    const gate = gatedFile(world.remote, bytes);
    const sent = await media.send({
        ...message,
        media: [{ at: ["url"], source: { kind: "http", url: gate.url } }, ...others],
    });
    const before = await eventById(world, message.roomId, sent.eventId);
    await untilTakenBack(world, uploadOf(sent).contentUri);
    gate.open();
    const { contentUri: url = "" } = await uploadOf(sent).done;
    expect(url).not.to.equal(uploadOf(sent).contentUri);
    await until(async () => (await related(world, message.roomId, sent.eventId)).length > 0);
    return { sent, before, url };
}
