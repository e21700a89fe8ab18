import { setMaxListeners } from "node:events";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { deferred } from "../../src/deferred.ts";
import { MediaError } from "../../src/errors.ts";
import type { Job } from "../../src/uploads/job.ts";
import { jobWrites } from "../../src/uploads/job-records.ts";
import { dueFromNow } from "../../src/uploads/release.ts";
import { UploadQueue, type UploadQueueParts } from "../../src/uploads/queue.ts";
import { SourceGate, type SourceLimits } from "../../src/uploads/source-gate.ts";
import { steadyNow } from "../../src/uploads/steady-clock.ts";
import { someJob } from "../support/job.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { queueParts } from "../support/queue-parts.ts";
import { until } from "../support/until.ts";

const LARGE = 10 * 2 ** 20;
const SMALL = 1000;
const DAY = 86_400_000;

describe("jobs that a message waits for", () => {
    let store: MemoryStore;
    let queue: UploadQueue;
    /** What has begun, and when, in that order. */
    let began: { id: string; at: number }[];
    /** Ends the transfers under way. */
    let ends: Map<string, () => void>;
    let most: number;
    const never = new AbortController().signal;
    setMaxListeners(0, never);

    async function open(limits: SourceLimits, parts: Partial<UploadQueueParts> = {}): Promise<void> {
        store = new MemoryStore();
        await store.open();
        [began, ends, most] = [[], new Map(), 0];
        queue = new UploadQueue({
            ...queueParts(),
            store,
            concurrency: 2,
            gate: new SourceGate(limits),
            transfer: async ({ id }, signal) => {
                began.push({ id, at: performance.now() });
                await new Promise<void>((resolve, reject) => {
                    ends.set(id, resolve);
                    most = Math.max(most, ends.size);
                    signal.addEventListener("abort", () => reject(signal.reason as Error));
                }).finally(() => ends.delete(id));
                return { size: 1, contentUri: "mxc://a/b" };
            },
            ...parts,
        });
        await queue.start();
    }
    afterEach(() => queue.close());

    const job = (id: string, extra: Partial<Job> = {}): Job =>
        someJob({ id, state: "unreserved", size: LARGE, ...extra });
    const add = (added: Job): Promise<void> => store.commit(jobWrites(undefined, added));
    const now = async (waitedFor: Job): Promise<Job> => {
        await add(waitedFor);
        return queue.runNow(waitedFor, never);
    };
    const ready = async (id: string, dueAt: number, extra: Partial<Job> = {}): Promise<void> => {
        await add(job(id, { state: "ready", contentUri: `mxc://a/${id}`, dueAt, ...extra }));
        queue.poke();
    };
    const quiet = async (): Promise<void> => {
        for (let turn = 0; turn < 30; turn++) await nextTurn();
    };
    const ids = (): string[] => began.map(({ id }) => id);
    /** Lets all transfers end, one after the other in the order of their beginnings. */
    const drain = async (count: number): Promise<void> => {
        await until(
            async () => {
                const [first] = ends.values();
                first?.();
                await quiet();
                return began.length >= count && ends.size === 0;
            },
            { limitMs: 20_000 },
        );
    };
    const history = { backfill: true } as const;

    it("keep the limits of their source however many are called for at once, in the order of the calls", async () => {
        await open({ default: { concurrency: 1, perSecond: 5 } }, { concurrency: 8 });
        const jobs = ["a", "b", "c", "d"].map((id) => job(id));
        for (const waitedFor of jobs) await add(waitedFor);
        const all = Promise.all(jobs.map((waitedFor) => queue.runNow(waitedFor, never)));
        await quiet();
        expect(ids()).to.deep.equal(["a"]);
        await drain(4);
        expect((await all).map(({ state }) => state)).to.deep.equal(["done", "done", "done", "done"]);
        expect(ids()).to.deep.equal(["a", "b", "c", "d"]);
        expect(most).to.equal(1);
        // Three pauses of 200 ms, not two; each may begin late.
        expect((began.at(-1)?.at ?? 0) - (began[0]?.at ?? 0)).to.be.at.least(500);
    });

    it("what is new comes before history that was called for first, at a place and at a source", async () => {
        for (const [limits, concurrency] of [
            [{}, 1],
            [{ default: { concurrency: 1 } }, 8],
        ] as const) {
            await open(limits, { concurrency });
            const all = [now(job("first"))];
            await quiet();
            for (const id of ["old1", "old2", "old3"]) all.push(now(job(id, history)));
            await quiet();
            all.push(now(job("new1")), now(job("new2")));
            await quiet();
            await drain(6);
            await Promise.all(all);
            expect(ids()).to.deep.equal(["first", "new1", "new2", "old1", "old2", "old3"]);
            await queue.close();
        }
    });

    it("history that waits keeps no new file from a place, and comes before the lists' own history", async () => {
        await open({}, { concurrency: 3 });
        const names = Array.from({ length: 12 }, (_, i) => `old${i}`);
        const all = names.map((id) => now(job(id, history)));
        await until(() => began.length === 2);
        await ready("new at once", Date.now() + 10_000);
        await until(() => began.length === 3);
        await ready("listed history", Date.now() + DAY, history);
        await ready("new", Date.now() + 10_000);
        await quiet();
        await drain(15);
        await Promise.all(all);
        expect(ids()).to.deep.equal(["old0", "old1", "new at once", "new", ...names.slice(2), "listed history"]);
        expect(most).to.equal(3);
    });

    it("history that has all its places has no list gone through for it, whatever its sources are", async () => {
        const closed = { kind: "http", url: "https://closed.example/" } as const;
        await open({ [new URL(closed.url).origin]: { concurrency: 1 } }, { concurrency: 4 });
        for (const [id, extra] of Object.entries({ a: { source: closed }, b: {}, c: {} }))
            await ready(id, dueFromNow(job(id, history)), { ...history, ...extra });
        await until(() => began.length === 3);
        for (let index = 0; index < 300; index++)
            await add(
                job(`old${index}`, {
                    ...history,
                    state: "ready",
                    contentUri: `mxc://a/${index}`,
                    dueAt: dueFromNow(job("", history)),
                    source: closed,
                }),
            );
        let commits = 0;
        const commit = store.commit.bind(store);
        store.commit = (writes) => {
            commits++;
            return commit(writes);
        };
        queue.poke();
        await quiet();
        expect(commits).to.equal(0);
        await ready("new", Date.now());
        await until(() => began.length === 4);
        expect(ids()).to.deep.equal(["a", "b", "c", "new"]);
    });

    it("nor one whose source was closed, when it opens", async () => {
        await open({ default: { concurrency: 1 } });
        const all = [now(job("first"))];
        await until(() => began.length === 1);
        await ready("held", Date.now());
        await quiet();
        for (const id of ["old1", "old2"]) all.push(now(job(id, history)));
        await quiet();
        await drain(4);
        await Promise.all(all);
        expect(ids()).to.deep.equal(["first", "held", "old1", "old2"]);
    });

    it("small files have their places beside large history that waits", async () => {
        await open({}, { concurrency: 1, smallFileConcurrency: 1 });
        const all = ["old1", "old2"].map((id) => now(job(id, history)));
        await until(() => began.length === 1);
        all.push(now(job("small history", { ...history, size: SMALL })));
        await until(() => began.length === 2);
        await ready("small", Date.now() + 1000, { size: SMALL });
        await ready("large", Date.now() + 1000);
        await quiet();
        ends.get("small history")?.();
        await until(() => ids().includes("small"));
        expect(ids()).to.deep.equal(["old1", "small history", "small"]);
        await drain(5);
        await Promise.all(all);
        expect(ids().slice(3)).to.deep.equal(["large", "old2"]);
    });

    describe("when the clock is set back", () => {
        const [real, since] = [Date.now, performance.now.bind(performance)];
        afterEach(() => {
            Date.now = real;
            performance.now = since;
        });
        /** Time passes, and by the clock less than none. */
        const pass = (ms: number): void => {
            Date.now = () => real() - DAY / 24;
            performance.now = () => since() + ms;
            queue.poke();
        };

        it("what became ready before is no history: it has its place, and comes before history that is waited for", async () => {
            await open({}, { concurrency: 2 });
            const all = [now(job("old1", history))];
            await until(() => began.length === 1);
            for (const id of ["new1", "new2"]) await ready(id, Date.now(), { notBefore: steadyNow() + 60_000 });
            await queue.lookAgain();
            all.push(now(job("old2", history)));
            await quiet();
            expect(ids()).to.deep.equal(["old1"]);
            pass(61_000);
            await until(() => began.length === 2);
            expect(ids()).to.deep.equal(["old1", "new1"]);
            await drain(4);
            await Promise.all(all);
            expect(ids()).to.deep.equal(["old1", "new1", "new2", "old2"]);
        });

        it("and the process starts anew, what became ready before still has the place that history leaves it", async () => {
            await open({}, { concurrency: 2 });
            const old = now(job("old", history));
            await until(() => began.length === 1);
            await ready("new", Date.now() + DAY / 24);
            await until(() => began.length === 2);
            await drain(2);
            await old;
        });

        it("history that is waited for has waited all the same", async () => {
            await open({}, { concurrency: 2 });
            const all = [now(job("old1", history)), now(job("old2", history))];
            await until(() => began.length === 1);
            await ready("new1", Date.now());
            await until(() => began.length === 2);
            await ready("new2", Date.now());
            pass(DAY + 1000);
            ends.get("old1")?.();
            await until(() => began.length === 3);
            expect(ids()).to.deep.equal(["old1", "new1", "old2"]);
            await drain(4);
            await Promise.all(all);
        });
    });

    it("history that something new waits for goes before all, in the line and after its own wait", async () => {
        await open({}, { concurrency: 2 });
        const all = [now(job("first", history))];
        await until(() => began.length === 1);
        all.push(now(job("second", history)), now(job("third", history)));
        all.push(now(job("fourth", { ...history, notBefore: steadyNow() + 300 })));
        await quiet();
        expect(ids()).to.deep.equal(["first"]);
        queue.hasten("third", 0);
        await until(() => began.length === 2);
        queue.hasten("fourth", 0);
        ends.get("third")?.();
        await until(() => began.length === 3);
        expect(ids()).to.deep.equal(["first", "third", "fourth"]);
        await drain(4);
        await Promise.all(all);
    });

    it("one that waits can be cancelled at once, and all are told when the queue closes", async () => {
        await open({ default: { concurrency: 1 } });
        void now(job("first"));
        await until(() => began.length === 1);
        const cancelled = now(job("cancelled"));
        const left = now(job("left")).catch((error: MediaError) => error.code);
        await quiet();
        await queue.cancel("cancelled");
        expect((await cancelled).state).to.equal("cancelled");
        const caller = new AbortController();
        await add(job("gone"));
        const gone = queue.runNow(job("gone"), caller.signal).catch((error: MediaError) => error.code);
        await sleep(10);
        caller.abort(new MediaError("CANCELLED"));
        expect(await gone).to.equal("CANCELLED");
        await queue.close();
        expect(await left).to.equal("CLOSED");
        expect(ids()).to.deep.equal(["first"]);
    });

    it("one that is just being changed when the queue closes does not stand in line any more", async () => {
        await open({});
        const waiting = job("waiting", history);
        await add(waiting);
        const { promise: changed, resolve } = deferred();
        const changing = queue.locks.hold(["waiting"], () => changed);
        const code = queue.runNow(waiting, never).catch((error: MediaError) => error.code);
        await quiet();
        await queue.close();
        resolve();
        await changing;
        expect(await code).to.equal("CLOSED");
    });

    it("one that failed, and whose message then got an address, begins with its event", async () => {
        await open({});
        await quiet();
        const failed = job("failed", { state: "reserved", contentUri: "mxc://a/c", attempts: 1, notBefore: 1 });
        await add(failed);
        const released = queue.release(failed, false);
        await store.commit(released.writes);
        released.confirm();
        await until(() => ids().includes("failed"));
        await drain(1);
    });

    it("one whose turns change nothing leaves the others their time in between", async () => {
        let turns = 0;
        const idle = job("idle");
        const finish = (): Promise<void> => add({ ...idle, state: "done", finishedAt: 1 });
        await open(
            {},
            {
                beforeBegin: async () => {
                    // Else it never ends where nothing else comes to its turn.
                    if (++turns === 1000) await finish();
                    return undefined;
                },
            },
        );
        const done = now(idle);
        await until(() => turns > 0);
        await quiet();
        await finish();
        expect((await done).state).to.equal("done");
        expect(turns).to.be.lessThan(4);
    });
});
