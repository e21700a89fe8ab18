import { join } from "node:path";
import { mock } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { finishedWrite, loadMessage } from "../../src/bridge/records.ts";
import { deferred } from "../../src/deferred.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { edits } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { sweeperOf } from "../support/sweeper.ts";
import { until } from "../support/until.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

describe("what is over is tidied away", function () {
    this.timeout(60_000);
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(async () => {
        mock.timers.reset();
        mock.restoreAll();
        await closeScene({ world, remote });
    });

    const journal = async (): Promise<LevelStore> => {
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        return store;
    };
    const count = async (store: LevelStore, collection: string): Promise<number> => {
        let found = 0;
        for await (const _ of store.keys({ collection })) found++;
        return found;
    };
    const left = async (): Promise<Record<string, number>> => {
        const store = await journal();
        const names = ["message", "job", "finished", "dedupe", "dedupe-used"];
        const counts: Record<string, number> = {};
        for (const name of names) counts[name] = await count(store, name);
        await store.close();
        return counts;
    };
    const sendOneOfEach = async (ago: number): Promise<void> => {
        mock.timers.enable({ apis: ["Date"], now: Date.now() - ago });
        const media = world.component();
        await media.start();
        await media.send(textMessage(roomId, alice, "hello"));
        const source = { kind: "http", url: remote.file(someBytes(100)) } as const;
        const sent = await media.send(photoMessage(roomId, alice, source, {}, { dedupeKey: "shared" }));
        await sent.uploads[0]?.done;
        await media.close();
        mock.timers.reset();
    };

    it("soon after a start: a bridge that is restarted more often than once an hour comes to it too", async () => {
        await sendOneOfEach(31 * DAY);
        expect(await left()).to.deep.equal({ message: 2, job: 1, finished: 3, dedupe: 1, "dedupe-used": 1 });

        // No interval comes to its end here; the first look is a timer of its own.
        mock.timers.enable({ apis: ["setTimeout"] });
        const media = world.component();
        await media.start();
        mock.timers.tick(1 * MINUTE);
        mock.timers.tick(1 * MINUTE);
        mock.timers.reset();
        // A look that has begun is brought to the end of its batch.
        await media.close();
        expect(await left()).to.deep.equal({ message: 0, job: 0, finished: 0, dedupe: 0, "dedupe-used": 0 });
    });

    it("but not what is to be kept", async () => {
        await sendOneOfEach(6 * DAY);
        mock.timers.enable({ apis: ["setTimeout"] });
        const media = world.component();
        await media.start();
        mock.timers.tick(30 * MINUTE);
        mock.timers.reset();
        await media.close();
        expect(await left()).to.deep.equal({ message: 2, job: 1, finished: 3, dedupe: 1, "dedupe-used": 1 });
    });

    for (const what of ["edit", "redaction"] as const)
        it(`but no message whose ${what} stands in its room's line`, async () => {
            let store: LevelStore | undefined;
            const media = world.component({ store: (directory) => (store = new LevelStore(directory)) });
            await media.start();
            const say = (body: string) => ({ msgtype: "m.text", body });
            await media.send(textMessage(roomId, alice, "of no interest", { id: "other" }));
            const sent = await media.send(textMessage(roomId, alice, "one", { id: "one" }));
            await media.edit("one", { id: "edit 1", content: say("a secret") });
            let isDown = true;
            const isSend = ({ path }: { path: string }): boolean => /\/(?:send|redact)\//.test(path);
            world.homeserver.intercept((request) =>
                isDown && isSend(request) ? { status: 503, body: {} } : undefined,
            );
            // Nothing of it is under way before its turn has come.
            const ahead = media.send(textMessage(roomId, alice, "ahead"));
            const late =
                what === "edit"
                    ? media.edit("one", { id: "edit 2", content: say("two") })
                    : media.cancelMessage("one", { redact: true });
            if (store === undefined) throw new Error("no store");
            const journal = store;
            await until(async () => (await count(journal, "outbox")) === 2);
            await sweeperOf(store, world.dataDir).sweep(Date.now() + 1);
            expect(await loadMessage(store, "other"), "whoever has nothing in the line").to.equal(undefined);
            isDown = false;
            await Promise.all([ahead, late]);
            const redacted = (): unknown[] =>
                world.homeserver
                    .events(roomId)
                    .filter(({ type }) => type === "m.room.redaction")
                    .map(({ redacts }) => redacts);
            if (what === "edit") {
                expect(edits(world.homeserver, roomId).get(sent.eventId)?.["body"]).to.equal("two");
            } else {
                await until(() => redacted().includes(sent.eventId));
                expect(JSON.stringify(world.homeserver.events(roomId))).not.to.contain("secret");
            }
        });

    it("but no file that is tried again just then", async () => {
        const first = world.component();
        await first.start();
        let asked = 0;
        const url = remote.on("/gone", (_request, response) => {
            // With its next tries it is busy.
            if (asked++ === 0) response.writeHead(404).end();
        });
        const source = { kind: "http", url } as const;
        const { uploads } = await first.send(photoMessage(roomId, alice, source));
        const [upload] = uploads;
        expect(await upload?.done.catch(({ code }: { code: string }) => code)).to.equal("SOURCE_NOT_FOUND");
        await until(() => edits(world.homeserver, roomId).size === 1);
        await first.close();

        // Between the look at the job and the commit that forgets it, there is time for a call.
        const [looked, called, forgotten] = [deferred(), deferred(), deferred()];
        class Slow extends LevelStore {
            override async commit(writes: readonly Write[]): Promise<void> {
                if (!writes.some(({ collection, record }) => collection === "job" && record === undefined))
                    return super.commit(writes);
                looked.resolve();
                await called.promise;
                await super.commit(writes);
                forgotten.resolve();
            }
        }
        mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() + 31 * DAY });
        const now = performance.now.bind(performance);
        mock.method(performance, "now", () => now() + 31 * DAY);
        const media = world.component({ store: (directory) => new Slow(directory) });
        await media.start();
        mock.timers.tick(1 * MINUTE);
        mock.timers.tick(1 * MINUTE);
        mock.timers.reset();
        await looked.promise;
        const retried = media.retry(upload?.jobId ?? "").then(
            () => true,
            ({ code }: { code: string }) => code,
        );
        // As far as it comes while the sweeping stands still.
        await Promise.race([until(() => asked > 1), sleep(300)]);
        called.resolve();
        await forgotten.promise;
        const answer = await retried;
        const known: string[] = [];
        for await (const { id } of media.jobs()) known.push(id);
        await media.close();
        expect(answer).to.equal(known.length === 1 ? true : "JOB_UNKNOWN");
    });

    it("batch by batch, and a closing component waits for one batch only", async () => {
        const store = await journal();
        await store.commit(Array.from({ length: 9_950 }, (_, index) => finishedWrite(1000, "job", `job-${index}`)));
        const sweeper = sweeperOf(store, world.dataDir, DAY);
        const swept = sweeper.sweep(2000);
        await until(async () => (await count(store, "finished")) < 9_950);
        await sweeper.close();
        await swept;
        const kept = await count(store, "finished");
        expect(kept).to.be.above(0);
        await sweeperOf(store, world.dataDir, DAY).sweep(2000);
        expect(await count(store, "finished")).to.equal(0);
        await store.close();
    });
});
