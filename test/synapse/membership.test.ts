import { expect } from "chai";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { bodies, download } from "./harness/room-view.ts";
import { useSynapse } from "./harness/world.ts";

describe("Synapse: a ghost that is not in the room", () => {
    const use = useSynapse();

    it("which the homeserver has never seen is registered, joined, and its photo arrives", async () => {
        const world = use();
        const stranger = world.ghost("stranger");
        const roomId = await world.room();
        const media = await world.component();
        const bytes = someBytes(10_000);
        const source = { kind: "http", url: world.remote.file(bytes) } as const;
        const sent = await media.send(photoMessage(roomId, stranger, source));
        const { contentUri = "" } = (await sent.uploads[0]?.done) ?? {};
        expect(sha256((await download(world, contentUri)).body)).to.equal(sha256(bytes));
        expect(await bodies(world, roomId)).to.deep.equal(["cat.jpg"]);
    });

    it("which never joined a room by invitation only is invited by the bot", async () => {
        const world = use();
        const [ann, stranger] = [world.ghost("invited_ann"), world.ghost("invited_stranger")];
        const roomId = await world.privateRoom(ann);
        const media = await world.component();
        await Promise.all([
            media.send(textMessage(roomId, ann, "one")),
            media.send(textMessage(roomId, stranger, "two")),
            media.send(textMessage(roomId, ann, "three")),
        ]);
        expect(await bodies(world, roomId)).to.deep.equal(["one", "two", "three"]);
    });

    for (const kind of ["room", "privateRoom"] as const) {
        it(`which was kicked from a ${kind === "room" ? "public" : "private"} room comes back, in order`, async () => {
            const world = use();
            const [ann, ben] = [world.ghost(`kicked_ann_${kind}`), world.ghost(`kicked_ben_${kind}`)];
            const roomId = await world[kind](ann, ben);
            const media = await world.component();
            await media.send(textMessage(roomId, ann, "one"));
            const path = `/v3/rooms/${encodeURIComponent(roomId)}/kick`;
            await world.request(world.bot, "POST", path, { user_id: ann });
            await Promise.all([
                media.send(textMessage(roomId, ann, "two")),
                media.send(textMessage(roomId, ben, "three")),
            ]);
            expect(await bodies(world, roomId)).to.deep.equal(["one", "two", "three"]);
        });
    }

    it("which is banned fails its own message only", async () => {
        const world = use();
        const [ann, ben] = [world.ghost("banned_ann"), world.ghost("banned_ben")];
        const roomId = await world.room(ann, ben);
        const media = await world.component();
        const path = `/v3/rooms/${encodeURIComponent(roomId)}/ban`;
        await world.request(world.bot, "POST", path, { user_id: ann });
        const sends = await Promise.allSettled([
            media.send(textMessage(roomId, ben, "one")),
            media.send(textMessage(roomId, ann, "two")),
            media.send(textMessage(roomId, ben, "three")),
        ]);
        expect(sends.map(({ status }) => status)).to.deep.equal(["fulfilled", "rejected", "fulfilled"]);
        expect((sends[1] as PromiseRejectedResult).reason).to.include({ code: "FORBIDDEN" });
        expect(await bodies(world, roomId)).to.deep.equal(["one", "three"]);
    });
});
