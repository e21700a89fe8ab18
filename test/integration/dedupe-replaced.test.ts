import { expect } from "chai";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { download, edits, messages } from "../support/download.ts";
import { reviseMark } from "../../src/bridge/records.ts";
import type { Job } from "../../src/uploads/job.ts";
import { transition } from "../../src/uploads/transition.ts";
import { JOBS, jobFrom, jobWrites } from "../../src/uploads/job-records.ts";
import { LevelStore } from "../../src/store/level.ts";
import { join } from "node:path";

/** A job with a new address in place of the one that leads, as it is made when an address expires. */
async function replaceLeader(dataDir: string, leader: string, contentUri: string): Promise<void> {
    const store = new LevelStore(join(dataDir, "journal"));
    await store.open(() => {});
    const old = jobFrom((await store.get(JOBS, leader)) ?? {});
    const next: Job = { ...old, id: "replacement", contentUri, state: "ready" };
    const replaced = transition(old, { type: "replace", by: next.id, at: Date.now() });
    if (replaced === undefined) throw new Error(`it is ${old.state}`);
    const message = (await store.get("message", old.messageId ?? "")) ?? {};
    await store.commit([
        ...jobWrites(old, replaced),
        ...jobWrites(undefined, next),
        { collection: "message", key: old.messageId ?? "", record: { ...message, jobs: [next.id] } },
        reviseMark(old.messageId ?? ""),
    ]);
    await store.close();
}

describe("a file in common whose address had to be replaced", () => {
    it("is transferred once, to the new address, and every event shows that one", async () => {
        const { world, remote, alice, roomId } = await openScene();
        const bytes = someBytes(5000);
        const held = remote.on("/sticker", () => {});
        const first = world.component();
        await first.start();
        const ready: string[] = [];
        first.on("job", ({ id, state }) => void (state === "ready" && ready.push(id)));
        const sticker = () => photoMessage(roomId, alice, { kind: "http", url: held }, {}, { dedupeKey: "sticker" });
        const leading = await first.send(sticker());
        await until(() => remote.requests.length === 1);
        const others = [await first.send(sticker()), await first.send(sticker())];
        // Released with their events, and put aside when their turns came.
        await until(() => ready.length >= 5);
        const spare = await first.upload({ kind: "http", url: remote.on("/never", () => {}) }, { userId: alice });
        await first.close();
        await replaceLeader(world.dataDir, leading.uploads[0]?.jobId ?? "", spare.contentUri);

        remote.on("/sticker", (_request, response) => {
            response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        const second = world.component();
        await second.start();
        for (const { eventId } of [leading, ...others]) {
            await until(() => edits(world.homeserver, roomId).get(eventId)?.["url"] === spare.contentUri);
        }
        expect((await download(world.homeserver, spare.contentUri)).body.equals(bytes)).to.equal(true);
        expect(messages(world.homeserver, roomId)).to.have.length(6);
        expect(remote.requests.filter(({ url }) => url === "/sticker")).to.have.length(2);
        await closeScene({ world, remote });
    });
});
