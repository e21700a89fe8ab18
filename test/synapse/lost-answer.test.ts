import { expect } from "chai";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { isCreate, isSend, isUpload } from "./harness/proxy.ts";
import { bodies, download, messages, mxcs } from "./harness/room-view.ts";
import { useSynapse } from "./harness/world.ts";

describe("Synapse: a lost answer", () => {
    const use = useSynapse();

    it("to an upload ends as done at the same address: the 409 that follows is settled by a look", async () => {
        const world = use();
        const ann = world.ghost("lost_upload");
        const roomId = await world.room(ann);
        const media = await world.component({ reserveAhead: 0 });
        const bytes = someBytes(200_000);
        let lost = 0;
        world.proxy.rules = { after: (exchange) => (isUpload(exchange) && lost++ === 0 ? "drop" : undefined) };

        const sent = await media.send(photoMessage(roomId, ann, { kind: "http", url: world.remote.file(bytes) }));
        const end = await sent.uploads[0]?.done;
        expect(end).to.include({ state: "done", size: bytes.length, contentUri: sent.uploads[0]?.contentUri });
        const uploads = world.proxy.exchanges.filter(isUpload);
        expect(uploads.map(({ status }) => status)).to.deep.equal([200, 409]);
        expect(uploads[0]?.dropped).to.equal(true);
        expect(JSON.parse(uploads[1]?.body ?? "{}")).to.include({ errcode: "M_CANNOT_OVERWRITE_MEDIA" });
        // One address, one event, no edit: no second copy anywhere.
        expect(new Set(uploads.map(({ path }) => path)).size).to.equal(1);
        expect(world.proxy.statuses(isCreate)).to.deep.equal([200]);
        const seen = await messages(world, roomId);
        expect(seen).to.have.length(1);
        expect(sha256((await download(world, mxcs(seen[0]?.content)[0] ?? "")).body)).to.equal(sha256(bytes));
    });

    it("to a send is repeated with the same transaction id and leaves one event, in order", async () => {
        const world = use();
        const ann = world.ghost("lost_send");
        const roomId = await world.room(ann);
        const media = await world.component();
        let sends = 0;
        world.proxy.rules = { after: (exchange) => (isSend(exchange) && sends++ % 3 === 0 ? "drop" : undefined) };
        const expected = Array.from({ length: 12 }, (_, index) => `message ${index}`);
        await Promise.all(expected.map((body) => media.send(textMessage(roomId, ann, body))));
        expect(world.proxy.exchanges.filter(({ dropped }) => dropped).length).to.be.greaterThan(2);
        expect(await bodies(world, roomId)).to.deep.equal(expected);
    });

    it("to a /create does not hold the message up", async () => {
        const world = use();
        const ann = world.ghost("lost_create");
        const roomId = await world.room(ann);
        const media = await world.component();
        let creates = 0;
        world.proxy.rules = { after: (exchange) => (isCreate(exchange) && creates++ === 0 ? "drop" : undefined) };
        const bytes = someBytes(5000);
        const sent = await media.send(photoMessage(roomId, ann, { kind: "http", url: world.remote.file(bytes) }));
        const { contentUri = "" } = (await sent.uploads[0]?.done) ?? {};
        expect(sha256((await download(world, contentUri)).body)).to.equal(sha256(bytes));
        expect(await bodies(world, roomId)).to.deep.equal(["cat.jpg"]);
    });
});
