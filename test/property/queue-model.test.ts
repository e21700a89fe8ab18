import { setImmediate as nextTurn } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import { MediaError } from "../../src/errors.ts";
import { isFinal, type Job } from "../../src/uploads/job.ts";
import { JOBS, jobFrom, jobWrites } from "../../src/uploads/job-records.ts";
import { isSmall } from "../../src/uploads/places.ts";
import { UploadQueue } from "../../src/uploads/queue.ts";
import type { Transferred } from "../../src/uploads/transfer.ts";
import { transition } from "../../src/uploads/transition.ts";
import { someJob } from "../support/job.ts";
import { Disk, MemoryStore } from "../support/memory-store.ts";
import { assertBounded, Clock } from "../support/model.ts";
import { queueParts } from "../support/queue-parts.ts";

/**
 * The upload queue against a reference of a few lines: which jobs there are, what became of each, and who is under way.
 * Transfers end when the model says so; the clock moves when the model says so.
 */
const CONCURRENCY = 3;
const SMALL = 2;
/** One is left to what is live. */
const FOR_HISTORY = CONCURRENCY - 1;

class Model {
    /** What each job has to come to in the end. */
    readonly due = new Map<string, "done" | "failed" | "cancelled">();
    readonly times = new Map<string, number>();
    readonly doneTimes = new Map<string, number>();
}

interface Running {
    readonly job: Job;
    readonly end: (outcome: Transferred | MediaError) => void;
}

/** The queue and the process that it lives in. */
class Real {
    readonly disk = new Disk();
    readonly clock: Clock;
    readonly model: Model;
    readonly running = new Map<string, Running>();
    store = new MemoryStore(this.disk);
    queue: UploadQueue;
    #life = 0;

    constructor(model: Model, clock: Clock) {
        this.model = model;
        this.clock = clock;
        this.queue = this.#open();
    }

    #open(): UploadQueue {
        const life = ++this.#life;
        const { store } = this;
        return new UploadQueue({
            ...queueParts(),
            store,
            concurrency: CONCURRENCY,
            smallFileConcurrency: SMALL,
            transfer: (job, signal) => this.#transfer(job, signal, life),
        });
    }

    #transfer(job: Job, signal: AbortSignal, life: number): Promise<Transferred> {
        // What a dead process still does is seen by nobody.
        if (life !== this.#life) return new Promise(() => {});
        expect(this.running.has(job.id), `${job.id} twice at once`).to.equal(false);
        this.expectFirst(job);
        this.model.times.set(job.id, (this.model.times.get(job.id) ?? 0) + 1);
        return new Promise((resolve, reject) => {
            const end = (outcome: Transferred | MediaError): void => {
                if (life === this.#life) this.running.delete(job.id);
                if (outcome instanceof MediaError) return reject(outcome);
                this.model.doneTimes.set(job.id, (this.model.doneTimes.get(job.id) ?? 0) + 1);
                resolve(outcome);
            };
            this.running.set(job.id, { job, end });
            this.expectBounds();
            signal.addEventListener("abort", () => end(signal.reason as MediaError));
        });
    }

    expectBounds(): void {
        const large = [...this.running.values()].filter(({ job }) => !isSmall(job));
        expect(large.length, "large files at once").to.be.at.most(CONCURRENCY);
        const old = large.filter(({ job }) => job.backfill);
        expect(old.length, "large files of history at once").to.be.at.most(FOR_HISTORY);
        expect(this.running.size, "files at once").to.be.at.most(CONCURRENCY + SMALL);
    }

    /** Who waits has no place because there is none. */
    expectNoIdlePlace(): void {
        const running = [...this.running.values()];
        const large = running.filter(({ job }) => !isSmall(job)).length;
        const old = running.filter(({ job }) => job.backfill).length;
        for (const [path, text] of this.disk.records) {
            if (!path.startsWith(`${JOBS}\0`)) continue;
            const job = JSON.parse(text) as Job;
            if (job.state !== "ready" || job.notBefore !== undefined || this.running.has(job.id)) continue;
            if (job.backfill && old >= FOR_HISTORY) continue;
            const isPlaceFree = running.length < (large < CONCURRENCY ? CONCURRENCY : 0);
            expect(isPlaceFree, `${job.id} waits although a place is free`).to.equal(false);
        }
    }

    jobOf(id: string): Job {
        return JSON.parse(this.disk.records.get(`${JOBS}\0${id}`) ?? "{}") as Job;
    }

    /** Nobody who is ready and due earlier may stand behind this one. Kept as failures of the run, not of the job. */
    readonly overtaken: string[] = [];
    expectFirst(begun: Job): void {
        for (const [path, text] of this.disk.records) {
            if (!path.startsWith(`${JOBS}\0`)) continue;
            const other = JSON.parse(text) as Job;
            if (other.state !== "ready" || this.running.has(other.id) || other.id === begun.id) continue;
            if (other.notBefore !== undefined || other.backfill || !begun.backfill) continue;
            // There may be places for small files alone.
            if (isSmall(begun) && !isSmall(other)) continue;
            if (this.added.has(other.id)) this.overtaken.push(`${begun.id} before ${other.id}`);
        }
    }
    /** Jobs that the queue was told of before the last turn, so it has had its chance. */
    readonly added = new Set<string>();

    /** Until nothing moves any more without the model. */
    async quiet(): Promise<void> {
        for (let turns = 0; turns < 30; turns++) await nextTurn();
    }

    async add(job: Job): Promise<void> {
        await this.store.commit(jobWrites(undefined, job));
        this.queue.poke();
    }

    /** As a message's event makes its file ready. @param turns Of the loop before the commit. */
    async release(reserved: Job, turns: number, fails: boolean): Promise<void> {
        const { store, queue } = this;
        await store.commit(jobWrites(undefined, reserved));
        await queue.locks.hold([reserved.id], async () => {
            const release = queue.release(reserved, true);
            for (let turn = 0; turn < turns; turn++) await nextTurn();
            if (fails) return release.undo();
            await store.commit(release.writes);
            release.confirm();
        });
    }

    async restart(how: "close" | "die"): Promise<void> {
        const before = this.queue;
        if (how === "close") await before.close();
        this.#life++;
        this.running.clear();
        this.store = new MemoryStore(this.disk);
        await this.store.open();
        this.queue = this.#open();
        if (how === "die") void before.close();
        await this.queue.start();
    }
}

type Command = fc.AsyncCommand<Model, Real>;
const always = (): boolean => true;

function command(
    name: string,
    run: (model: Model, real: Real) => Promise<void>,
    check: () => boolean = always,
): Command {
    return {
        check,
        async run(model, real) {
            await run(model, real);
            await real.quiet();
            for (const id of model.due.keys()) real.added.add(id);
            real.expectBounds();
            real.expectNoIdlePlace();
            expect(real.overtaken).to.deep.equal([]);
        },
        toString: () => name,
    };
}

const ok: Transferred = { size: 5, contentUri: "mxc://a/b" };
const nth = (real: Real, index: number): Running | undefined =>
    [...real.running.values()][index % (CONCURRENCY + SMALL)];
let count = 0;

const size = fc.oneof(fc.nat(2 ** 20), fc.nat(10 * 2 ** 20));

function reserved(backfill: boolean, size: number): Job {
    return someJob({
        id: `job${count++}`,
        state: "reserved",
        source: { kind: "file", path: "/x" },
        createdAt: Date.now(),
        backfill,
        size,
        contentUri: "mxc://a/b",
    });
}

const commands = [
    fc.record({ backfill: fc.boolean(), size }).map(({ backfill, size }) =>
        command(`add(${backfill ? "backfill" : "live"}, ${size})`, async (model, real) => {
            const fresh = reserved(backfill, size);
            model.due.set(fresh.id, "done");
            const ready = transition(fresh, {
                type: "release",
                dueAt: Date.now() + size / 1000 + (backfill ? 86_400_000 : 0),
            });
            if (ready !== undefined) await real.add(ready);
        }),
    ),
    fc
        .record({ backfill: fc.boolean(), size, turns: fc.nat(3), fails: fc.boolean(), taken: fc.boolean() })
        .map(({ backfill, size, turns, fails, taken }) =>
            command(
                `send(${size}${fails ? ", not journaled" : ""}${taken ? ", cancelled" : ""})`,
                async (model, real) => {
                    const fresh = reserved(backfill, size);
                    const released = real.release(fresh, turns, fails);
                    // One whose commit fails stays reserved, which the reference has no more to do with once it is cancelled.
                    model.due.set(fresh.id, fails || taken ? "cancelled" : "done");
                    if (taken) {
                        await nextTurn();
                        await real.queue.cancel(fresh.id);
                    }
                    await released;
                    if (fails && !taken) await real.queue.cancel(fresh.id);
                },
            ),
        ),
    fc.nat(5).map((index) => command(`arrive(${index})`, async (_model, real) => nth(real, index)?.end(ok))),
    fc
        .nat(5)
        .map((index) =>
            command(`falter(${index})`, async (_model, real) =>
                nth(real, index)?.end(new MediaError("UPLOAD_PENDING")),
            ),
        ),
    fc.nat(5).map((index) =>
        command(`fail(${index})`, async (model, real) => {
            const running = nth(real, index);
            if (running !== undefined) model.due.set(running.job.id, "failed");
            running?.end(new MediaError("SOURCE_NOT_FOUND"));
        }),
    ),
    fc.nat(30).map((index) =>
        command(`cancel(${index})`, async (model, real) => {
            const [id, end] = [...model.due][index % Math.max(1, model.due.size)] ?? [];
            if (id === undefined || end !== "done" || model.doneTimes.has(id)) return;
            model.due.set(id, "cancelled");
            await real.queue.cancel(id);
        }),
    ),
    fc.nat(30).map((index) =>
        command(`retry(${index})`, async (model, real) => {
            const failed = [...model.due].filter(([, end]) => end === "failed").map(([id]) => id);
            const id = failed[index % Math.max(1, failed.length)];
            if (id === undefined) return;
            model.due.set(id, "done");
            await real.queue.retry(id);
        }),
    ),
    fc.nat(30).map((index) =>
        command(`hasten(${index})`, async (model, real) => {
            const id = [...model.due.keys()][index % Math.max(1, model.due.size)];
            if (id === undefined) return;
            real.queue.hasten(id, Date.now());
            await real.quiet();
            const { state, backfill } = real.jobOf(id);
            const isLeft = isFinal(state) || state === "reserved" || real.running.has(id);
            expect(backfill && !isLeft, `${id} is history`).to.equal(false);
        }),
    ),
    fc.constantFrom("close" as const, "die" as const).map((how) => command(how, (_model, real) => real.restart(how))),
    fc.nat(120_000).map((ms) =>
        command(`wait(${ms})`, async (_model, real) => {
            real.clock.advance(ms);
            real.queue.poke();
        }),
    ),
];

describe("the model of the upload queue", function () {
    this.timeout(120_000);

    it("keeps its bound, its order and every job, whatever fails and however often it starts anew", async () => {
        const clock = new Clock();
        try {
            await assertBounded(
                fc.asyncProperty(fc.commands(commands, { maxCommands: 60, size: "max" }), async (run) => {
                    const model = new Model();
                    const real = new Real(model, clock);
                    await real.store.open();
                    await real.queue.start();
                    try {
                        await fc.asyncModelRun(() => ({ model, real }), run);
                        await drain(real);
                        for await (const [id, record] of real.store.range({ collection: JOBS }))
                            expect(jobFrom(record).state, id).to.equal(model.due.get(id));
                        expect(rowsLeft(real)).to.deep.equal([]);
                        for (const [id, times] of model.doneTimes) expect(times, `${id} arrived`).to.equal(1);
                    } finally {
                        await real.queue.close();
                    }
                }),
                150,
            );
        } finally {
            clock.restore();
        }
    });
});

/** Lets everything arrive; every job must come to its turn. */
async function drain(real: Real): Promise<void> {
    for (let round = 0; real.running.size > 0 || rowsLeft(real).length > 0; round++) {
        expect(round, "rounds until every job had its turn").to.be.below(1000);
        for (const { end } of real.running.values()) end(ok);
        real.clock.advance(400_000);
        real.queue.poke();
        await real.quiet();
    }
}

function rowsLeft({ disk }: Real): string[] {
    return [...disk.records.keys()].filter((key) => !key.startsWith(`${JOBS}\0`));
}
