import { expect } from "chai";
import { Replacement, type ReplacementParts } from "../../src/bridge/replacement.ts";
import { messageWrite, type MessageRecord } from "../../src/bridge/records.ts";
import { deferred } from "../../src/deferred.ts";
import { MediaError } from "../../src/errors.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { HeldJobs } from "../../src/uploads/held-jobs.ts";
import { KeyedLocks } from "../../src/uploads/keyed-locks.ts";
import type { Job } from "../../src/uploads/job.ts";
import { JOBS, jobWrites, loadJob, placeWrites } from "../../src/uploads/job-records.ts";
import type { SourceGate } from "../../src/uploads/source-gate.ts";
import { transition } from "../../src/uploads/transition.ts";
import { WaitingJobs } from "../../src/uploads/waiting-jobs.ts";
import { someJob } from "../support/job.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

/** Two changes of one job that meet in an unlucky moment: each of these once had the second one lost, or both stand still. */
describe("changes that meet", () => {
    const source = "http://example.org";
    const waiting = someJob({
        source: { kind: "http", url: `${source}/` },
        messageId: "message",
        attempts: 1,
        contentUri: "mxc://example.org/1",
        dueAt: 1,
        notBefore: 1,
    });

    async function storeWith(...jobs: readonly Job[]): Promise<MemoryStore> {
        const store = new MemoryStore();
        await store.open();
        for (const job of jobs) await store.commit(jobWrites(undefined, job));
        return store;
    }

    it("the end of a job's wait, and its cancellation: it stays cancelled", async () => {
        const store = await storeWith(waiting);
        const locks = new KeyedLocks();
        const jobs = new WaitingJobs(store, locks, async (job) => {
            await cancelling;
            const after = transition(job, { type: "promote" });
            if (after !== undefined) await store.commit(jobWrites(job, after));
            return after;
        });
        const { promise, resolve } = deferred();
        const cancelling: Promise<void> = locks.hold(["job"], async () => {
            const before = await loadJob(store, "job");
            await promise;
            const after = before && transition(before, { type: "cancel", at: 5 });
            if (after !== undefined) await store.commit(jobWrites(before, after));
        });
        const moving = jobs.move();
        await new Promise(setImmediate);
        resolve();
        await Promise.all([cancelling, moving]);
        const after = await loadJob(store, "job");
        expect(after?.state).to.equal("cancelled");
        expect(after && placeWrites(after)).to.deep.equal([]);
    });

    it("the renewal of an address, and whoever changes its message: neither waits for ever", async () => {
        const store = await storeWith({ ...waiting, notBefore: undefined, expiresAt: Date.now() + 60_000 });
        const message = { id: "message", jobs: ["job"], state: "queued" } as unknown as MessageRecord;
        await store.commit([messageWrite(message)]);
        const locks = { messageLocks: new KeyedLocks(), jobLocks: new KeyedLocks() };
        const reservation = {
            contentUri: "mxc://example.org/2",
            userId: "@a:example.org",
            createdAt: 0,
            expiresAt: 9e15,
        };
        const replaced: string[] = [];
        const replacement = new Replacement({
            store,
            reservations: {
                blockedFor: () => 0,
                takeWarm: () => reservation,
                guarded: (_: unknown, reading: unknown) => reading,
            },
            logger: { info: () => {} },
            onReplaced: (_old: Job, { contentUri = "" }: Job) => void replaced.push(contentUri),
            ...locks,
        } as unknown as ReplacementParts);
        const { promise, resolve } = deferred();
        const changing = locks.messageLocks.hold(["message"], async () => {
            await promise;
            // As the message's lane does when its event is out.
            await locks.jobLocks.hold(["job"], async () => {});
        });
        const renewing = replacement.renewAhead("job", new AbortController().signal);
        await new Promise(setImmediate);
        resolve();
        await until(() => replaced.length > 0);
        await Promise.all([changing, renewing]);
        expect(replaced).to.deep.equal([reservation.contentUri]);
    });

    it("a held job is taken and cannot be begun: it is found again", async () => {
        const held: Job = { ...waiting, notBefore: undefined, heldFor: source };
        const store = await storeWith(held);
        const gate = { closedUntil: () => 0 } as unknown as SourceGate;
        const jobs = new HeldJobs(store, gate, new KeyedLocks());
        await jobs.start();
        const taken = await jobs.next(Number.POSITIVE_INFINITY, () => false, 0);
        expect(taken?.id).to.equal("job");
        // Another look while it is under way finds nobody.
        expect(await jobs.next(Number.POSITIVE_INFINITY, () => true, 1)).to.equal(undefined);
        jobs.holds(held);
        expect((await jobs.next(Number.POSITIVE_INFINITY, () => false, 0))?.id).to.equal("job");
    });

    it("a look at a source's held jobs, and one of those that is put forward: that is due from then on", async () => {
        const held: Job = { ...waiting, notBefore: undefined, heldFor: source, dueAt: 1000 };
        const store = await storeWith(held);
        const gate = { closedUntil: () => 0 } as unknown as SourceGate;
        const jobs = new HeldJobs(store, gate, new KeyedLocks());
        await jobs.start();
        jobs.holds({ ...held, dueAt: 10 });
        const keys = store.keys.bind(store);
        const sooner = { ...held, dueAt: 5 };
        let isFirst = true;
        store.keys = async function* (range) {
            for await (const key of keys(range)) {
                if (isFirst) {
                    isFirst = false;
                    await store.commit(jobWrites(held, sooner));
                    jobs.holds(sooner);
                }
                yield key;
            }
        };
        expect((await jobs.next(20, () => false, 0))?.id).to.equal("job");
    });
});

describe("a journal that is slow, or refuses", () => {
    let { world, remote, alice } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    /** LevelDB, with something in the way of some of its commits. */
    class Hindered extends LevelStore {
        before: (job: Job) => Promise<void> | undefined = () => undefined;

        override async commit(writes: readonly Write[]): Promise<void> {
            for (const { collection, record } of writes)
                if (collection === JOBS && record !== undefined) await this.before(record as unknown as Job);
            return super.commit(writes);
        }
    }

    it("a job is cancelled also while the failure of its try is being journaled", async () => {
        const store = new Hindered(world.dataDir);
        const { promise, resolve } = deferred();
        let isFailing = false;
        store.before = ({ notBefore }) => {
            if (notBefore === undefined) return undefined;
            isFailing = true;
            return promise;
        };
        const media = world.component({ store: () => store });
        await media.start();
        world.homeserver.intercept(({ method, path }) =>
            method === "PUT" && path.includes("/upload/") ? { status: 503, body: {} } : undefined,
        );
        const url = remote.file(someBytes(1000));
        const upload = await media.upload({ kind: "http", url }, { userId: alice });
        await until(() => isFailing);
        const cancelling = media.cancel(upload.jobId);
        await new Promise(setImmediate);
        resolve();
        await cancelling;
        expect(await upload.done.catch(({ code }: MediaError) => code)).to.equal("CANCELLED");
    });

    it("a job whose beginning cannot be journaled is not begun again at once", async () => {
        const store = new Hindered(world.dataDir);
        const refusedAt: number[] = [];
        store.before = ({ state }) => {
            if (state !== "transferring" || refusedAt.length === 3) return undefined;
            refusedAt.push(performance.now());
            throw new MediaError("STORE_WRITE_FAILED");
        };
        const media = world.component({ store: () => store });
        await media.start();
        const url = remote.file(someBytes(1000));
        const upload = await media.upload({ kind: "http", url }, { userId: alice });
        expect((await upload.done).state).to.equal("done");
        const pauses = refusedAt.slice(1).map((at, i) => at - (refusedAt[i] ?? 0));
        for (const pause of pauses) expect(pause).to.be.at.least(900);
    });
});
