import { join } from "node:path";
import { expect } from "chai";
import { silentLogger } from "../../src/logger.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Job } from "../../src/uploads/job.ts";
import { JOBS, jobFrom, jobWrites } from "../../src/uploads/job-records.ts";
import { download, messages } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

describe("a journal that has lost a step in its middle", function () {
    this.timeout(60_000);
    let scene: Scene;
    beforeEach(async () => {
        scene = await openScene();
    });
    afterEach(() => closeScene(scene));

    for (const isOut of [true, false]) {
        const other = isOut ? "is out" : "waits for its event as well";
        it(`shows no message the file of another that has the same address and ${other}`, async () => {
            const { world, remote, alice, roomId } = scene;
            let stuck = true;
            world.homeserver.intercept(({ method, path }) => {
                const isUpload = method === "PUT" && path.includes("/upload/");
                return stuck && (isUpload || path.includes("/send/")) && !(isOut && path.includes(first))
                    ? { drop: "before" }
                    : undefined;
            });
            const second = await world.room(alice);
            const first = encodeURIComponent(roomId);
            const [one, two] = [someBytes(3000), someBytes(4000)];
            const before = world.component();
            await before.start();
            const url = (bytes: Buffer) => ({ kind: "http", url: remote.file(bytes) }) as const;
            const sendings = [
                before.send(photoMessage(roomId, alice, url(one))),
                before.send(photoMessage(second, alice, url(two))),
            ];
            for (const sending of sendings) sending.catch(() => {});
            await until(async () => {
                const states: string[] = [];
                for await (const { state, contentUri } of before.jobs())
                    if (contentUri !== undefined) states.push(state);
                return states.length === 2 && states.filter((state) => state === "reserved").length === (isOut ? 1 : 2);
            });
            await before.close();

            // As if the second had had this address, and given it back in a step that is lost.
            const store = new LevelStore(join(world.dataDir, "journal"));
            await store.open(() => {});
            const jobs: Job[] = [];
            for await (const [, record] of store.range({ collection: JOBS })) jobs.push(jobFrom(record));
            const [shown, hidden] = [roomId, second].map((id) => jobs.find((job) => job.roomId === id));
            if (shown === undefined || hidden === undefined) throw new Error("two jobs");
            await store.commit([
                ...jobWrites(hidden, { ...hidden, contentUri: shown.contentUri }),
                { collection: "meta", key: "damaged", record: { reviewed: false } },
            ]);
            await store.close();

            stuck = false;
            const told: unknown[] = [];
            const warn = (text: string, details: unknown): void => void (/reviewed/.test(text) && told.push(details));
            const media = world.component({ logger: { ...silentLogger, warn } });
            await media.start();
            expect(told).to.deep.equal([
                { putBack: 0, filesLost: 0, jobsWithoutMessage: 0, addressesTwice: isOut ? 1 : 2 },
            ]);
            const contentIn = async (room: string): Promise<string | undefined> => {
                const uri = messages(world.homeserver, room)[0]?.content["url"];
                if (typeof uri !== "string") return undefined;
                const { status, body } = await download(world.homeserver, uri, 0);
                return status === 200 ? sha256(body) : undefined;
            };
            expect(await until(() => contentIn(roomId))).to.equal(sha256(one));
            expect(await until(() => contentIn(second))).to.equal(sha256(two));
        });
    }
});
