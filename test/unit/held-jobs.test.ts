import { expect } from "chai";
import { HeldJobs } from "../../src/uploads/held-jobs.ts";
import { jobWrites } from "../../src/uploads/job-records.ts";
import { KeyedLocks } from "../../src/uploads/keyed-locks.ts";
import { SourceGate, sourceKeyOf } from "../../src/uploads/source-gate.ts";
import { MediaError } from "../../src/errors.ts";
import { someJob } from "../support/job.ts";
import { MemoryStore } from "../support/memory-store.ts";

describe("held jobs", () => {
    it("name the time to look again also where their source has opened just after the last look", async () => {
        let now = 1000;
        const gate = new SourceGate({}, () => now);
        const source = { kind: "http", url: "http://remote.example/cat" } as const;
        const job = someJob({ id: "one", source, dueAt: 5 });
        const until = gate.failed(job, new MediaError("SOURCE_UNAVAILABLE"));
        const store = new MemoryStore();
        await store.open();
        const held = { ...job, heldFor: sourceKeyOf(job) };
        await store.commit(jobWrites(undefined, held));
        const jobs = new HeldJobs(store, gate, new KeyedLocks());
        jobs.holds(held);
        const look = () => jobs.next(Number.POSITIVE_INFINITY, () => false, 0);
        now = until - 0.5;
        expect(await look()).to.equal(undefined);
        now = until + 0.5;
        expect(jobs.opensAt()).to.equal(until);
        expect((await look())?.id).to.equal("one");
    });
});
