import { setImmediate as nextTurn } from "node:timers/promises";
import { expect } from "chai";
import { deferred } from "../../src/deferred.ts";
import { MediaError } from "../../src/errors.ts";
import type { Write } from "../../src/store/store.ts";
import type { Job } from "../../src/uploads/job.ts";
import { HELD, jobWrites, loadJob, SCHEDULE, WAITING } from "../../src/uploads/job-records.ts";
import { UploadQueue } from "../../src/uploads/queue.ts";
import { dueFromNow } from "../../src/uploads/release.ts";
import { SourceGate, sourceKeyOf } from "../../src/uploads/source-gate.ts";
import { steadyNow } from "../../src/uploads/steady-clock.ts";
import { someJob } from "../support/job.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { queueParts } from "../support/queue-parts.ts";
import { until } from "../support/until.ts";

/** A store on a disk that refuses while it is full. */
class Refusing extends MemoryStore {
    refusals = 0;

    override async commit(writes: readonly Write[]): Promise<void> {
        if (this.refusals > 0) {
            this.refusals--;
            throw new MediaError("STORE_WRITE_FAILED");
        }
        return super.commit(writes);
    }
}

describe("history that something new waits for", () => {
    let store: Refusing;
    let queue: UploadQueue;
    let began: string[];
    let ends: Map<string, (error?: MediaError) => void>;
    beforeEach(async () => {
        store = new Refusing();
        await store.open();
        [began, ends] = [[], new Map()];
        queue = new UploadQueue({
            ...queueParts(),
            store,
            concurrency: 2,
            gate: new SourceGate({ "https://single.example": { concurrency: 1 } }),
            transfer: async ({ id }, signal) => {
                began.push(id);
                await new Promise<void>((resolve, reject) => {
                    ends.set(id, (error) => (error === undefined ? resolve() : reject(error)));
                    signal.addEventListener("abort", () => reject(signal.reason as Error));
                });
                return { size: 1, contentUri: "mxc://a/b" };
            },
        });
    });
    afterEach(() => queue.close());

    const old = (id: string, more: Partial<Job> = {}): Job => {
        const job = someJob({ id, backfill: true, contentUri: `mxc://a/${id}`, ...more });
        return { ...job, dueAt: dueFromNow(job) };
    };
    const add = async (job: Job): Promise<void> => {
        await store.commit(jobWrites(undefined, job));
        queue.poke();
    };
    const hasBegun = (...ids: string[]) => until(() => ids.every((id) => began.includes(id)), { what: String(ids) });
    const end = (id: string, error?: MediaError): void => ends.get(id)?.(error);
    const quiet = async (): Promise<void> => {
        for (let turn = 0; turn < 30; turn++) await nextTurn();
    };
    /** Where the journal has a job, apart from its record. */
    const placesOf = async (id: string): Promise<string[]> => {
        const found: string[] = [];
        for (const collection of [SCHEDULE, WAITING, HELD])
            for await (const key of store.keys({ collection }))
                if (key.endsWith(` ${id}`)) found.push(`${collection} ${key}`);
        return found;
    };

    for (const [how, more] of [
        ["waits for its turn", {}],
        ["was cut off by a crash", { state: "transferring" }],
        ["has its bytes in a storage", { state: "completing" }],
    ] as const)
        it(`has a place that history leaves to what is new (it ${how})`, async () => {
            await queue.start();
            await add(old("a"));
            await hasBegun("a");
            await add(old("b"));
            await add(old("c", more));
            await quiet();
            expect(began).to.deep.equal(["a"]);
            queue.hasten("c", Date.now());
            await until(async () => {
                const c = await loadJob(store, "c");
                return c?.state === "done" || ends.has("c");
            });
            end("c");
            await until(async () => (await loadJob(store, "c"))?.state === "done");
            expect(began).not.to.include("b");
        });

    it("comes before what is new and due later, also where it is held for its source", async () => {
        await queue.start();
        const source = { kind: "http", url: "https://single.example/" } as const;
        await add(old("a", { source, backfill: false }));
        await hasBegun("a");
        for (const id of ["b", "c"]) await add(old(id, { source }));
        await until(async () => (await placesOf("c")).some((place) => place.startsWith(HELD)));
        await add(old("other", { backfill: false }));
        await hasBegun("other");
        await add(old("new", { backfill: false }));
        queue.hasten("c", Date.now() - 60_000);
        await until(async () => (await loadJob(store, "c"))?.backfill === false);
        expect(await placesOf("c")).to.have.length(1);
        end("a");
        await hasBegun("c");
        expect(began).to.deep.equal(["a", "other", "c"]);
        end("c");
        await hasBegun("new");
    });

    it("is changed only when its try has ended, and waits out what that has to", async () => {
        await queue.start();
        await add(old("a"));
        await hasBegun("a");
        queue.hasten("a", 1000);
        queue.hasten("a", 500);
        await quiet();
        expect(await loadJob(store, "a")).to.include({ state: "transferring", backfill: true });
        end("a", new MediaError("UPLOAD_PENDING", { retryAfterMs: 60_000 }));
        await until(async () => (await loadJob(store, "a"))?.backfill === false);
        const after = await loadJob(store, "a");
        expect(after).to.include({ state: "ready", dueAt: 500 });
        expect(after?.notBefore).to.be.above(steadyNow() + 30_000);
        expect(await placesOf("a")).to.have.length(1);
    });

    it("is what has its place by then, where its address was replaced", async () => {
        await add({ ...old("a"), state: "replaced", replacedBy: "b" });
        await add({ ...old("b"), state: "replaced", replacedBy: "c" });
        await add(old("c", { notBefore: steadyNow() + 600_000 }));
        await queue.start();
        queue.hasten("a", 1000);
        await until(async () => (await loadJob(store, "c"))?.backfill === false);
        expect(await loadJob(store, "b")).to.include({ state: "replaced", backfill: true });
    });

    it("is not seen to any more once the queue is closed, whatever the disk does", async () => {
        await queue.start();
        for (const id of ["slow", "refused"]) await add(old(id, { notBefore: steadyNow() + 600_000 }));
        const get = store.get.bind(store);
        const read = deferred();
        store.get = async (collection, id) => {
            if (id === "slow") await read.promise;
            return get(collection, id);
        };
        store.refusals = 1000;
        for (const id of ["slow", "refused"]) queue.hasten(id, 1000);
        await until(() => store.refusals < 1000);
        let isClosed = false;
        const closed = queue.close().then(() => (isClosed = true));
        await quiet();
        expect(isClosed, "closed while it is at work").to.equal(false);
        read.resolve();
        await closed;
        const { refusals } = store;
        await quiet();
        expect(store.refusals).to.equal(refusals);
        expect(await loadJob(store, "refused")).to.include({ backfill: true });
    });

    it("is changed once the disk takes it, and not where it follows another one or has ended", async () => {
        await queue.start();
        for (const [id, more] of Object.entries({
            follows: { follows: true, dedupe: "file" },
            failed: { state: "failed" },
        }))
            await add(old(id, more as Partial<Job>));
        await add(old("a", { notBefore: steadyNow() + 600_000, heldFor: sourceKeyOf(old("a")) }));
        store.refusals = 1;
        for (const id of ["a", "follows", "failed", "unknown"]) queue.hasten(id, 1000);
        await until(async () => (await loadJob(store, "a"))?.backfill === false);
        expect(store.refusals).to.equal(0);
        for (const id of ["follows", "failed"]) expect(await loadJob(store, id)).to.include({ backfill: true });
    });
});
