import { expect } from "chai";
import type { RemoteMessage } from "../../src/index.ts";
import { photoMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { isUpload } from "./harness/proxy.ts";
import { download, mxcs, originals } from "./harness/room-view.ts";
import { type SynapseWorld, useSynapse } from "./harness/world.ts";

const SIZES = [0, 1, 1023, 65_536, 65_537, 100_000, 3_000_000, 30_000_000];

describe("Synapse: bytes", () => {
    const use = useSynapse();

    for (const size of SIZES) {
        it(`of a file of ${size} come as they are at the source`, async () => {
            const world = use();
            const bytes = someBytes(size);
            await arrives(world, `size_${size}`, bytes, { kind: "http", url: world.remote.file(bytes) });
        });
    }

    for (const size of [0, 100_000, 5_000_000]) {
        it(`of a source that does not say its length (${size}) come complete, with a Content-Length`, async () => {
            const world = use();
            const bytes = someBytes(size);
            const url = world.remote.on(`/chunked/${size}`, (_request, response) => {
                // Without a length Node sends chunks.
                response.writeHead(200, { "content-type": "image/jpeg" });
                response.write(bytes.subarray(0, size / 2));
                response.end(bytes.subarray(size / 2));
            });
            await arrives(world, `chunked_${size}`, bytes, { kind: "http", url });
            expect(world.proxy.statuses(isUpload)).to.deep.equal([200]);
        });
    }

    it("of a buffer and of a thumbnail beside its photo come each to its own address", async () => {
        const world = use();
        const ann = world.ghost("two_files");
        const roomId = await world.room(ann);
        const media = await world.component();
        const [photo, thumbnail] = [someBytes(400_000), someBytes(9_000)];
        const message: RemoteMessage = {
            id: "two files",
            roomId,
            sender: ann,
            content: { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg" } },
            media: [
                { at: ["url"], source: { kind: "http", url: world.remote.file(photo) } },
                { at: ["info", "thumbnail_url"], source: { kind: "buffer", data: thumbnail } },
            ],
        };
        const sent = await media.send(message);
        await Promise.all(sent.uploads.map(({ done }) => done));
        const [event] = await originals(world, roomId);
        const info = event?.content["info"] as { thumbnail_url: string };
        expect(sha256((await download(world, String(event?.content["url"]))).body)).to.equal(sha256(photo));
        expect(sha256((await download(world, info.thumbnail_url)).body)).to.equal(sha256(thumbnail));
    });
});

async function arrives(
    world: SynapseWorld,
    name: string,
    bytes: Buffer,
    source: { kind: "http"; url: string },
): Promise<void> {
    const ghost = world.ghost(name);
    const roomId = await world.room(ghost);
    const media = await world.component();
    // A picture of no bytes would be refused.
    const content = { msgtype: "m.file", body: "file" };
    const sent = await media.send(photoMessage(roomId, ghost, source, { content }));
    expect(await sent.uploads[0]?.done).to.include({ state: "done", size: bytes.length });
    const [event] = await originals(world, roomId);
    const [mxc = ""] = mxcs(event?.content);
    const { status, body } = await download(world, mxc);
    expect(status).to.equal(200);
    expect(body.length).to.equal(bytes.length);
    expect(sha256(body)).to.equal(sha256(bytes));
}
