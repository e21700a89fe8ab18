import { expect } from "chai";
import type { BridgeMedia, ErrorCode } from "../../src/index.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { isUpload } from "./harness/proxy.ts";
import { bodies, download, shownInstead } from "./harness/room-view.ts";
import { type SynapseWorld, useSynapse } from "./harness/world.ts";

const LIMIT = 1_000_000;

describe("Synapse: a file over its limit", () => {
    const use = useSynapse({ maxUploadBytes: LIMIT });

    it("fails before a byte is uploaded, and clients are shown a notice with the caption", async () => {
        const world = use();
        const url = world.remote.file(someBytes(LIMIT + 1));
        await failsVisibly(world, await world.component(), "announced", url);
        expect(world.proxy.statuses(isUpload)).to.deep.equal([]);
    });

    it("fails when its source does not say how long it is", async () => {
        const world = use();
        const url = world.remote.on("/long-chunked", (_request, response) => {
            response.writeHead(200, { "content-type": "image/jpeg" });
            response.write(someBytes(LIMIT));
            response.end(someBytes(1));
        });
        await failsVisibly(world, await world.component(), "chunked", url);
        expect(world.proxy.statuses(isUpload)).to.deep.equal([]);
    });

    it("fails with Synapse's own 413 where the limit could not be asked for", async () => {
        const world = use();
        world.proxy.rules = {
            before: ({ path }) =>
                path.endsWith("/config") ? { status: 404, body: { errcode: "M_UNRECOGNIZED" } } : undefined,
        };
        await failsVisibly(world, await world.component(), "unasked", world.remote.file(someBytes(2 * LIMIT)));
        expect(world.proxy.statuses(isUpload)).to.deep.equal([413]);
    });

    it("does not begin at the limit itself", async () => {
        const world = use();
        const ann = world.ghost("large_exact");
        const bytes = someBytes(LIMIT);
        const media = await world.component();
        const source = { kind: "http", url: world.remote.file(bytes) } as const;
        const sent = await media.send(photoMessage(await world.room(ann), ann, source));
        const { contentUri = "" } = (await sent.uploads[0]?.done) ?? {};
        expect(sha256((await download(world, contentUri)).body)).to.equal(sha256(bytes));
    });
});

async function failsVisibly(world: SynapseWorld, media: BridgeMedia, name: string, url: string): Promise<void> {
    const ghost = world.ghost(`large_${name}`);
    const roomId = await world.room(ghost);
    const content = { msgtype: "m.image", body: "look at this", filename: "cat.jpg", info: { mimetype: "image/jpeg" } };
    const sent = await media.send(photoMessage(roomId, ghost, { kind: "http", url }, { content }));
    await media.send(textMessage(roomId, ghost, "after"));
    const failure: { code?: ErrorCode } = await sent.uploads[0]!.done.then(
        () => ({}),
        (error: { code: ErrorCode }) => error,
    );
    expect(failure.code).to.equal("FILE_TOO_LARGE");
    const shown = await until(() => shownInstead(world, roomId, sent.eventId));
    expect(shown["msgtype"]).to.equal("m.notice");
    expect(shown["body"])
        .to.match(/^cat\.jpg .*larger than the limit/)
        .and.to.match(/look at this$/);
    expect(await bodies(world, roomId)).to.deep.equal(["look at this", "after"]);
}
