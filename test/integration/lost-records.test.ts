import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { lostRecords } from "../../src/bridge/damage/lost-records.ts";
import { FINISHED, finishedWrite, MESSAGES, reviseMark } from "../../src/bridge/records.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Range } from "../../src/store/store.ts";
import { JOBS, orderedKey, SCHEDULE } from "../../src/uploads/job-records.ts";

describe("what a damaged journal still names", () => {
    let directory: string;
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "lost-records-"));
    });
    afterEach(async () => {
        await rm(directory, { recursive: true });
    });

    it("is told as lost, but not what is forgotten while it is read", async () => {
        /** A result is forgotten between the reading of the list and the look at its record. */
        class Forgetful extends LevelStore {
            override async *keys(range: Range): AsyncIterable<string> {
                for await (const key of super.keys(range)) {
                    if (range.collection === FINISHED && range.limit === undefined && key.endsWith("old"))
                        await this.commit([
                            { collection: FINISHED, key },
                            { collection: key.includes(" job ") ? JOBS : MESSAGES, key: "old" },
                        ]);
                    yield key;
                }
            }
        }
        const store = new Forgetful(directory);
        await store.open(() => {});
        await store.commit([
            ...[MESSAGES, JOBS].map((collection) => ({ collection, key: "old", record: { state: "done" } })),
            ...(["message", "job"] as const).map((kind) => finishedWrite(1, kind, "old")),
            finishedWrite(2, "message", "lost"),
            reviseMark("lost too"),
            { collection: SCHEDULE, key: orderedKey(1, "lost"), record: {} },
        ]);
        const { messages, jobs } = await lostRecords(store, new AbortController().signal);
        await store.close();
        expect([...messages]).to.deep.equal(["lost", "lost too"]);
        expect([...jobs]).to.deep.equal(["lost"]);
    });
});
