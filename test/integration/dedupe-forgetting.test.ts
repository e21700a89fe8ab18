import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock } from "node:test";
import { expect } from "chai";
import { Forgetting } from "../../src/bridge/dedupe/forgetting.ts";
import { KnownFiles } from "../../src/bridge/dedupe/known-files.ts";
import {
    pendingFile,
    SHARED,
    type SharedFile,
    sharedWrites,
    USED,
    usedKey,
} from "../../src/bridge/dedupe/shared-file.ts";
import { silentLogger } from "../../src/logger.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { SentMessage } from "../../src/index.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene } from "../support/scene.ts";

const MINUTE = 60_000;

function fileUsedAt(usedAt: number, key: string, more: Partial<SharedFile> = {}): SharedFile {
    const file = pendingFile(key, "@bot:example.org", { contentUri: `mxc://example.org/${key}` });
    return { ...file, state: "uploaded", usedAt, ...more };
}

async function fill(store: LevelStore, files: Iterable<SharedFile>): Promise<void> {
    let writes = [];
    for (const file of files) {
        writes.push(...sharedWrites(undefined, file));
        if (writes.length >= 10_000) await store.commit(writes.splice(0));
    }
    await store.commit(writes);
}

async function count(store: LevelStore, collection: string): Promise<number> {
    let found = 0;
    for await (const _ of store.keys({ collection })) found++;
    return found;
}

function* numbered(many: number): Generator<SharedFile> {
    for (let index = 0; index < many; index++) yield fileUsedAt(1_000_000 + index, `file-${index}`);
}

describe("files that messages had in common are forgotten", function () {
    this.timeout(120_000);

    describe("on disk", () => {
        let dir: string;
        let store: LevelStore;
        beforeEach(async () => {
            dir = await mkdtemp(join(tmpdir(), "bridge-media-"));
            store = new LevelStore(join(dir, "journal"));
            await store.open(() => {});
        });
        afterEach(async () => {
            await store.close();
            await rm(dir, { recursive: true, force: true });
        });

        const forgetting = (maxFiles: number): Forgetting =>
            new Forgetting({
                store,
                files: new KnownFiles(store, () => {}),
                logger: silentLogger,
                keepMs: MINUTE,
                maxFiles,
            });

        it("when they are too many: the ones used longest ago, and no more of them than has to be", async () => {
            await fill(store, numbered(1700));
            await forgetting(600).forget(0);
            expect([await count(store, SHARED), await count(store, USED)]).to.deep.equal([600, 600]);
            expect(await store.get(SHARED, "file-1099")).to.equal(undefined);
            expect(await store.get(SHARED, "file-1100")).to.include({ key: "file-1100" });
        });

        it("when they were not used for long, and not a moment earlier", async () => {
            await fill(store, numbered(1200));
            await forgetting(5000).forget(1_000_700);
            expect(await count(store, SHARED)).to.equal(500);
            expect(await store.get(SHARED, "file-699")).to.equal(undefined);
            expect(await store.get(SHARED, "file-700")).to.include({ key: "file-700" });
        });

        it("but not one that jobs wait for, nor one that was used since its row was written", async () => {
            const waitedFor = fileUsedAt(1000, "waited-for", { state: "pending", leader: "job" });
            await fill(store, [waitedFor, fileUsedAt(3000, "used-again"), fileUsedAt(1000, "old")]);
            const stale = usedKey(fileUsedAt(1000, "used-again"));
            await store.commit([{ collection: USED, key: stale, record: {} }]);
            await forgetting(5000).forget(2000);
            expect(await store.get(SHARED, "waited-for")).to.not.equal(undefined);
            expect(await store.get(SHARED, "used-again")).to.include({ usedAt: 3000 });
            expect(await store.get(SHARED, "old")).to.equal(undefined);
        });
    });

    describe("by the component", () => {
        afterEach(() => {
            mock.timers.reset();
            mock.restoreAll();
        });

        /** Lets time pass until it has looked once more, and waits for the look's end. */
        function clock() {
            const { mock: looks } = mock.method(Forgetting.prototype, "forget");
            const now = performance.now.bind(performance);
            let passedMs = 0;
            mock.method(performance, "now", () => now() + passedMs);
            return async (minutes: number): Promise<void> => {
                const before = looks.callCount();
                passedMs += minutes * MINUTE;
                mock.timers.tick(minutes * MINUTE);
                for (const { result } of looks.calls.slice(before)) await result;
            };
        }

        it("after `dedupeKeepMs` without use: what comes again then is uploaded again", async () => {
            mock.timers.enable({ apis: ["setInterval", "Date"], now: Date.now() });
            const pass = clock();
            const { world, remote, alice, roomId } = await openScene();
            const media = world.component({ dedupeKeepMs: 10 * MINUTE });
            await media.start();
            const url = remote.file(someBytes(2000));
            const sticker = () =>
                media.send(photoMessage(roomId, alice, { kind: "http", url }, {}, { dedupeKey: "sticker" }));
            const uriOf = async ({ uploads: [upload] }: SentMessage) => (await upload?.done)?.contentUri;
            const first = await uriOf(await sticker());
            await pass(9);
            const used = await uriOf(await sticker());
            // Its use has put it off.
            await pass(9);
            const usedAgain = await uriOf(await sticker());
            expect([used, usedAgain]).to.deep.equal([first, first]);
            await pass(13);
            expect(await uriOf(await sticker()))
                .to.match(/^mxc:/)
                .and.not.equal(first);
            mock.timers.reset();
            await closeScene({ world, remote });
        });

        it("beyond 100,000 of them", async () => {
            const { world, remote } = await openScene();
            const store = new LevelStore(join(world.dataDir, "journal"));
            await store.open(() => {});
            await fill(store, numbered(100_003));
            await store.close();

            mock.timers.enable({ apis: ["setInterval"] });
            const pass = clock();
            const media = world.component({ dedupeKeepMs: Date.now() });
            await media.start();
            await pass(60);
            await media.close();
            mock.timers.reset();

            await store.open(() => {});
            expect(await count(store, SHARED)).to.equal(100_000);
            expect(await store.get(SHARED, "file-2")).to.equal(undefined);
            expect(await store.get(SHARED, "file-3")).to.include({ key: "file-3" });
            await store.close();
            await closeScene({ world, remote });
        });
    });
});
