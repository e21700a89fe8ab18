import { expect } from "chai";
import type { MediaItem, RemoteMessage } from "../../src/index.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { type GatedFile, gatedFile } from "./harness/gate.ts";
import { isCreate, isSend } from "./harness/proxy.ts";
import { bodies, download, mxcs, originals } from "./harness/room-view.ts";
import { type SynapseWorld, useSynapse } from "./harness/world.ts";

/** Far below the day after which Synapse would let the next one in, and below the minute between two askings. */
const WITHOUT_WAITING_MS = 45_000;

describe("Synapse: a registration without rate_limited: false", () => {
    const use = useSynapse({ rateLimited: true, messageRate: { per_second: 2, burst_count: 5 } });

    it("lets 12 photos of one ghost and a message of 7 through the limit of 5, as uploads finish", async () => {
        const world = use();
        const [ann, ben] = [world.ghost("five_ann"), world.ghost("five_ben")];
        const [roomId, other] = [await world.room(ann), await world.room(ann, ben)];
        // A place for each of the five files that do not come, and more: they are not what the others are to wait for.
        const media = await world.component({ concurrency: 8 });
        const files = Array.from({ length: 19 }, () => slowFile(world));
        const sends = files
            .slice(0, 12)
            .map(({ gate }, index) => media.send(photo(roomId, ann, `photo ${index}`, [gate])));
        const seven = files.slice(12).map(({ gate }) => gate);
        sends.push(media.send(photo(roomId, ann, "album", seven)), media.send(textMessage(roomId, ann, "last")));

        const refused = await until(() => world.proxy.exchanges.find((one) => isCreate(one) && one.status === 429));
        // So long that it can only be the limit of pending uploads, not that of requests.
        const { retry_after_ms: told } = JSON.parse(refused.body ?? "{}") as { retry_after_ms: number };
        expect(told).to.be.greaterThan(23 * 60 * 60_000);
        // Another room, another ghost: not held up.
        const sent = await media.send(photo(other, ben, "elsewhere", [slowFile(world, true).gate]));
        await sent.uploads[0]?.done;
        expect((await bodies(world, roomId)).length).to.be.lessThan(6);

        const before = Date.now();
        for (const { gate } of files) gate.open();
        const ends = (await Promise.all(sends)).flatMap(({ uploads }) => uploads.map(({ done }) => done));
        expect((await Promise.all(ends)).every(({ state }) => state === "done")).to.equal(true);
        expect(Date.now() - before).to.be.lessThan(WITHOUT_WAITING_MS);

        const photos = Array.from({ length: 12 }, (_, index) => `photo ${index}`);
        const events = await originals(world, roomId);
        expect(events.map(({ content }) => content["body"])).to.deep.equal([...photos, "album", "last"]);
        const found = events.flatMap(({ content }) => mxcs(content));
        expect(found).to.have.length(19);
        const hashes = await Promise.all(found.map(async (mxc) => sha256((await download(world, mxc)).body)));
        expect(hashes).to.deep.equal(files.map(({ hash }) => hash));
    });

    it("lets albums larger than the limit through in three rooms at once", async () => {
        const world = use();
        const ann = world.ghost("five_albums");
        const rooms = await Promise.all([1, 2, 3].map(() => world.room(ann)));
        const media = await world.component();
        const before = Date.now();
        const sends = rooms.flatMap((roomId) =>
            ["one", "two"].map((name) => {
                const gates = Array.from({ length: 6 }, () => slowFile(world, true).gate);
                return media.send(photo(roomId, ann, name, gates));
            }),
        );
        const ends = (await Promise.all(sends)).flatMap(({ uploads }) => uploads.map(({ done }) => done));
        expect(await Promise.all(ends)).to.have.length(36);
        expect(world.proxy.statuses(isCreate)).to.include(429);
        expect(Date.now() - before).to.be.lessThan(WITHOUT_WAITING_MS);
        for (const roomId of rooms) expect(await bodies(world, roomId)).to.deep.equal(["one", "two"]);
    });

    it("keeps the order when Synapse asks to wait between messages", async () => {
        const world = use();
        const ann = world.ghost("five_order");
        const roomId = await world.room(ann);
        const media = await world.component();
        const expected = Array.from({ length: 20 }, (_, index) => `message ${index}`);
        await Promise.all(expected.map((body) => media.send(textMessage(roomId, ann, body))));
        expect(world.proxy.statuses(isSend)).to.include(429);
        expect(await bodies(world, roomId)).to.deep.equal(expected);
    });
});

function slowFile(world: SynapseWorld, open = false): { gate: GatedFile; hash: string } {
    const bytes = someBytes(30_000);
    const gate = gatedFile(world.remote, bytes, { ahead: 10_000 });
    if (open) gate.open();
    return { gate, hash: sha256(bytes) };
}

/** One event with as many files as there are gates. */
function photo(roomId: string, sender: string, body: string, gates: readonly GatedFile[]): RemoteMessage {
    const media = gates.map(
        ({ url }, index): MediaItem => ({
            at: gates.length === 1 ? ["url"] : [`file_${index}`],
            source: { kind: "http", url },
        }),
    );
    const content = { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } };
    return photoMessage(roomId, sender, { kind: "http", url: "" }, { content, media });
}
