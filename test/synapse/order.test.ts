import { expect } from "chai";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { gatedFile } from "./harness/gate.ts";
import { download, mxcs, originals } from "./harness/room-view.ts";
import { useSynapse } from "./harness/world.ts";

describe("Synapse: messages", () => {
    const use = useSynapse();

    it("keep the order of the calls in each room, text and media of several ghosts mixed", async () => {
        const world = use();
        const ghosts = ["ann", "ben", "cleo"].map((name) => world.ghost(`order_${name}`));
        const rooms = await Promise.all([1, 2, 3].map(() => world.room(...ghosts)));
        const media = await world.component();
        const bytes = someBytes(20_000);
        const url = world.remote.file(bytes);
        const expected = new Map(rooms.map((roomId) => [roomId, [] as string[]]));
        const started = 1_700_000_000_000;
        const sends = Array.from({ length: 120 }, (_, index) => {
            const roomId = rooms[index % rooms.length] ?? "";
            const sender = ghosts[(index * 7) % ghosts.length] ?? "";
            const body = `message ${index}`;
            expected.get(roomId)?.push(body);
            // Remote clocks run as they like; the order is that of the calls.
            const timestamp = started - index * 1000;
            const content = { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } };
            return index % 3 === 1
                ? media.send(photoMessage(roomId, sender, { kind: "http", url }, { content, timestamp }))
                : media.send(textMessage(roomId, sender, body, { timestamp }));
        });
        const sent = await Promise.all(sends);
        for (const [roomId, wanted] of expected) {
            const events = await originals(world, roomId);
            expect(events.map(({ content }) => content["body"])).to.deep.equal(wanted);
            for (const { content, origin_server_ts } of events) {
                const [, index] = String(content["body"]).split(" ");
                expect(origin_server_ts).to.equal(started - Number(index) * 1000);
            }
        }
        const ends = await Promise.all(sent.flatMap(({ uploads }) => uploads.map(({ done }) => done)));
        expect(ends).to.have.length(40);
        for (const { contentUri = "" } of ends) {
            expect(sha256((await download(world, contentUri)).body)).to.equal(sha256(bytes));
        }
    });

    it("show a photo before its bytes: 504 until they come, then 200", async () => {
        const world = use();
        const ann = world.ghost("early_ann");
        const roomId = await world.room(ann);
        const media = await world.component();
        const bytes = someBytes(300_000);
        const gate = gatedFile(world.remote, bytes);
        const sent = await media.send(photoMessage(roomId, ann, { kind: "http", url: gate.url }));
        const [event] = await originals(world, roomId);
        const [mxc = ""] = mxcs(event?.content);
        expect(event?.event_id).to.equal(sent.eventId);
        const early = await download(world, mxc, 0);
        expect(early.status).to.equal(504);
        expect(JSON.parse(early.body.toString())).to.include({ errcode: "M_NOT_YET_UPLOADED" });

        const waiting = download(world, mxc);
        gate.open();
        expect(await sent.uploads[0]?.done).to.include({ state: "done", size: bytes.length });
        const late = await waiting;
        expect(late.status).to.equal(200);
        expect(sha256(late.body)).to.equal(sha256(bytes));
    });
});
