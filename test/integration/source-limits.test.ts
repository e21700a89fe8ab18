import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { deferred } from "../../src/deferred.ts";
import { MediaError } from "../../src/errors.ts";
import type { BridgeMedia, SentMessage } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Store } from "../../src/store/store.ts";
import type { Job } from "../../src/uploads/job.ts";
import { HELD, jobWrites, SCHEDULE } from "../../src/uploads/job-records.ts";
import { UploadQueue, type UploadQueueParts } from "../../src/uploads/queue.ts";
import { SourceGate, sourceKeyOf } from "../../src/uploads/source-gate.ts";
import { someJob } from "../support/job.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { Clock } from "../support/model.ts";
import { type Remote, someBytes, startRemote } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { queueParts } from "../support/queue-parts.ts";
import { until } from "../support/until.ts";

describe("a source's limits", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let other: Remote;
    let clock: Clock | undefined;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
        other = await startRemote();
    });
    afterEach(async () => {
        clock?.restore();
        clock = undefined;
        await closeScene({ world, remote });
        await other.close();
    });

    const photos = (media: BridgeMedia, url: string, count: number, backfill = false): Promise<SentMessage[]> =>
        Promise.all(
            Array.from({ length: count }, () =>
                media.send(photoMessage(roomId, alice, { kind: "http", url }, { backfill })),
            ),
        );
    const attempts = async (sent: readonly SentMessage[]): Promise<number[]> => {
        const jobs = await Promise.all(sent.map(async ({ uploads }) => uploads[0]?.done));
        return jobs.map((job) => job?.attempts ?? -1);
    };

    it("429 with Retry-After: its other files wait as told and lose no try", async () => {
        const bytes = someBytes(1000);
        const asked: number[] = [];
        const url = remote.on("/limited", (_request, response) => {
            asked.push(performance.now());
            if (asked.length === 1) response.writeHead(429, { "retry-after": "1" }).end();
            else response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        const media = world.component({ concurrency: 1, maxAttempts: 2 });
        await media.start();
        const limited = await photos(media, url, 8);
        expect((await attempts(limited)).reduce((sum, tries) => sum + tries)).to.equal(1);
        // A timer may be early by a millisecond.
        expect((asked[1] ?? 0) - (asked[0] ?? 0)).to.be.at.least(999);
        expect(asked).to.have.length(9);
    });

    it("429 with Retry-After: other sources go on meanwhile", async () => {
        const url = remote.on("/limited", (_request, response) => {
            response.writeHead(429, { "retry-after": "600" }).end();
        });
        const media = world.component({ concurrency: 1 });
        await media.start();
        await photos(media, url, 8);
        await until(() => remote.requests.length === 1);
        await attempts(await photos(media, other.file(someBytes(1000)), 8));
        expect(remote.requests).to.have.length(1);
    });

    it("an outage costs the files under way a try, and the others none", async () => {
        const bytes = someBytes(1000);
        let asked = 0;
        const url = remote.on("/failing", (_request, response) => {
            if (++asked <= 4) response.writeHead(503).end();
            else response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        const media = world.component();
        await media.start();
        const tries = await attempts(await photos(media, url, 40));
        expect(tries.filter((count) => count > 0)).to.have.length.at.most(4);
        expect(asked).to.equal(44);
    });

    it("a source that gives one file at a time and 429 for others: the second one loses no try, and comes after it", async () => {
        const end = deferred();
        let isBusy = false;
        let refused = 0;
        const oneAtATime = (path: string, bytes: Buffer, last: Promise<void>): string =>
            remote.on(path, (_request, response) => {
                if (isBusy) {
                    refused++;
                    response.writeHead(429).end();
                    return;
                }
                isBusy = true;
                response.on("close", () => (isBusy = false));
                response.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, -1));
                void last.then(() => response.end(bytes.subarray(-1)));
            });
        const media = world.component({ maxAttempts: 3 });
        await media.start();
        const first = await photos(media, oneAtATime("/first", someBytes(300_000), end.promise), 1);
        await until(() => isBusy);
        const second = await photos(media, oneAtATime("/second", someBytes(1000), Promise.resolve()), 1);
        // As many as it has tries.
        await until(() => refused === 3);
        end.resolve();
        expect(await attempts([...first, ...second])).to.deep.equal([0, 0]);
        expect(refused).to.be.at.most(4);
    });

    /** Serves a long file, whose beginning and end come when that is said. */
    const longFile = (): { url: string; begin: () => void; end: () => void } => {
        const bytes = someBytes(400_000);
        const [begun, ended] = [deferred(), deferred()];
        const url = remote.on("/long", (_request, response) => {
            response.writeHead(200, { "content-length": bytes.length });
            void begun.promise.then(() => response.write(bytes.subarray(0, 300_000)));
            void ended.promise.then(() => response.end(bytes.subarray(300_000)));
        });
        return { url, begin: () => begun.resolve(), end: () => ended.resolve() };
    };
    /** Fails its first `failures` requests, and counts them all. */
    const failingAtFirst = (failures: number): { url: string; asked: number[] } => {
        const bytes = someBytes(1000);
        const asked: number[] = [];
        const url = remote.on("/failing-at-first", (_request, response) => {
            asked.push(performance.now());
            if (asked.length <= failures) response.writeHead(503).end();
            else response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        return { url, asked };
    };

    it("a hiccup does not have the others wait until a long file from before it has come", async () => {
        const media = world.component();
        await media.start();
        const long = longFile();
        long.begin();
        const [before] = await photos(media, long.url, 1);
        await until(() => remote.requests.length === 1);
        const tries = await attempts(await photos(media, failingAtFirst(1).url, 6));
        expect(tries.reduce((sum, count) => sum + count)).to.equal(1);
        long.end();
        expect((await before?.uploads[0]?.done)?.state).to.equal("done");
    });

    it("nor until a long file has come that it is tried with: its first bytes are an answer", async () => {
        const media = world.component({ concurrency: 2, smallFileConcurrency: 0, maxAttempts: 1 });
        await media.start();
        await photos(media, failingAtFirst(1).url, 1);
        await until(() => remote.requests.length === 1);
        const long = longFile();
        const [tried] = await photos(media, long.url, 1);
        await until(() => remote.requests.length === 2);
        const others = await photos(media, failingAtFirst(0).url, 4);
        // Behind all of them: when it is done, they have been put aside.
        await attempts(await photos(media, other.file(someBytes(1000)), 1));
        long.begin();
        await attempts(others);
        long.end();
        expect((await tried?.uploads[0]?.done)?.state).to.equal("done");
    });

    it("nor then one that a message waits for: on a server without /create", async () => {
        await closeScene({ world, remote });
        ({ world, remote, alice, roomId } = await openScene({ features: { create: false } }));
        const media = world.component({ maxAttempts: 1 });
        await media.start();
        const rooms = [await world.room(alice), await world.room(alice)];
        const send = (url: string): Promise<SentMessage> =>
            media.send(photoMessage(rooms.pop() ?? roomId, alice, { kind: "http", url }));
        await send(failingAtFirst(1).url);
        const long = longFile();
        const tried = send(long.url);
        await until(() => remote.requests.length === 2);
        const behind = send(failingAtFirst(0).url);
        // By then it stands in line.
        await media.send(textMessage(await world.room(alice), alice, "hello"));
        long.begin();
        await behind;
        long.end();
        await tried;
    });

    it("a source that breaks every file off is left alone for longer each time, although its first bytes come", async () => {
        const asked: number[] = [];
        const url = remote.on("/breaking", (_request, response) => {
            asked.push(performance.now());
            response.writeHead(200, { "content-length": 2000 });
            response.write(someBytes(1000), () => response.destroy());
        });
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0 });
        await media.start();
        await photos(media, url, 6);
        await until(() => asked.length === 4);
        // 250, 500 and 1000 ms at least; a timer may be early by a millisecond. Three first pauses are 1500 ms at most.
        expect((asked[3] ?? 0) - (asked[0] ?? 0)).to.be.at.least(1747);
    });

    it("`concurrency` and `perSecond` are what the source sees", async () => {
        const bytes = someBytes(1000);
        let most = 0;
        let now = 0;
        const pair = deferred();
        const answered = (from: Remote, starts: number[], ready: Promise<void>): string =>
            from.on("/limited", (_request, response) => {
                starts.push(performance.now());
                most = Math.max(most, ++now);
                const answer = (): void => {
                    now--;
                    response.writeHead(200, { "content-length": bytes.length }).end(bytes);
                };
                // Open as long as one more could come.
                void ready.then(() => setTimeout(answer, 40));
                if (now === 2) pair.resolve();
            });
        const media = world.component({
            concurrency: 8,
            sourceLimits: { [remote.url]: { concurrency: 2 }, default: { perSecond: 20 } },
        });
        await media.start();
        await attempts(await photos(media, answered(remote, [], pair.promise), 20));
        expect(most).to.equal(2);
        const starts: number[] = [];
        // Not from the first arrival, which may be late where the last one is not.
        const begun = performance.now();
        await attempts(await photos(media, answered(other, starts, Promise.resolve()), 8));
        // Seven pauses of 50 ms; a timer may be early by a millisecond.
        expect((starts.at(-1) ?? 0) - begun).to.be.at.least(7 * 49);
    });

    it("hold probes too, and a probe and its transfer count once", async () => {
        const bytes = someBytes(1000);
        const asked: number[] = [];
        let open = 0;
        let most = 0;
        const url = remote.on("/slow", (_request, response) => {
            asked.push(performance.now());
            most = Math.max(most, ++open);
            setTimeout(() => {
                open--;
                response.writeHead(200, { "content-type": "image/jpeg", "content-length": bytes.length }).end(bytes);
            }, 50);
        });
        const media = world.component({
            sourceLimits: { [new URL(url).origin]: { concurrency: 1, perSecond: 5 } },
        });
        await media.start();
        const item = { at: ["url"], source: { kind: "http", url }, probeHeaders: true } as const;
        const messages = Array.from({ length: 4 }, () => photoMessage(roomId, alice, item.source, { media: [item] }));
        const begun = performance.now();
        expect(await attempts(await Promise.all(messages.map((message) => media.send(message))))).to.deep.equal([
            0, 0, 0, 0,
        ]);
        expect(asked).to.have.length(4);
        expect(most).to.equal(1);
        // Three pauses of 200 ms; a timer may be early by a millisecond.
        expect((asked.at(-1) ?? 0) - begun).to.be.at.least(3 * 199);
    });

    it("hold files too that their messages wait for: on a server without /create", async () => {
        await closeScene({ world, remote });
        ({ world, remote, alice, roomId } = await openScene({ features: { create: false } }));
        const rooms = [roomId, await world.room(alice), await world.room(alice)];
        let running = 0;
        let most = 0;
        const url = remote.on("/one-by-one", (_request, response) => {
            most = Math.max(most, ++running);
            setTimeout(() => {
                running--;
                response.end(someBytes(4));
            }, 30);
        });
        const media = world.component({ sourceLimits: { [remote.url]: { concurrency: 1 } } });
        await media.start();
        await Promise.all(rooms.map((room) => media.send(photoMessage(room, alice, { kind: "http", url }))));
        expect(remote.requests).to.have.length(3);
        expect(most).to.equal(1);
    });

    it("a blocked source's backlog starves nobody: live before backfill, and both beside it", async () => {
        clock = new Clock();
        const order: string[] = [];
        const serve = (name: string): string =>
            other.on(`/${name}`, (_request, response) => {
                order.push(name);
                response.writeHead(200, { "content-length": 3 }).end(someBytes(3));
            });
        let open = false;
        const blocked = remote.on("/blocked", (_request, response) => {
            if (!open) return void response.writeHead(429, { "retry-after": "60" }).end();
            order.push("blocked");
            response.writeHead(200, { "content-length": 3 }).end(someBytes(3));
        });
        const live = remote.on("/live", (_request, response) => {
            order.push("live of the blocked");
            response.writeHead(200, { "content-length": 3 }).end(someBytes(3));
        });
        const media = world.component({ concurrency: 1 });
        await media.start();
        const first = await photos(media, blocked, 1);
        await until(() => remote.requests.length === 1);
        const held = await photos(media, blocked, 30, true);
        let release: () => void = () => {};
        const busy = other.on("/busy", (_request, response) => {
            release = () => response.writeHead(200, { "content-length": 3 }).end(someBytes(3));
        });
        await photos(media, busy, 1);
        await until(() => other.requests.length === 1);
        const history = await photos(media, serve("history"), 3, true);
        const now = await photos(media, serve("now"), 3);
        release();
        await attempts([...now, ...history]);
        expect(order).to.deep.equal(["now", "now", "now", "history", "history", "history"]);
        const later = await photos(media, live, 2);
        open = true;
        clock.advance(61_000);
        // Has the queue look at the clock.
        await photos(media, other.file(someBytes(3)), 1);
        await attempts([...first, ...held, ...later]);
        // The one that was told to wait and the live ones, in either order, before the held history.
        expect(order.slice(6, 9)).to.have.members(["blocked", "live of the blocked", "live of the blocked"]);
        expect(remote.requests).to.have.length(1 + 31 + 2);
    });

    it("held files are found again after a restart, counted, and can be cancelled", async () => {
        const bytes = someBytes(1000);
        let open = false;
        const url = remote.on("/later", (_request, response) => {
            if (open) response.writeHead(200, { "content-length": bytes.length }).end(bytes);
            else response.writeHead(429, { "retry-after": "600" }).end();
        });
        const media = world.component({ concurrency: 2 });
        await media.start();
        const sent = await photos(media, url, 10);
        await until(() => remote.requests.length > 0);
        // Behind all of them: when it is done, they have been put aside.
        await attempts(await photos(media, other.file(bytes), 1));
        const cancelled = sent.at(-1)?.uploads[0]?.jobId ?? "";
        await media.cancel(cancelled);
        await media.close();

        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        expect(await keysOf(store, HELD)).to.have.length.within(7, 9);
        await store.close();

        open = true;
        const next = world.component({ concurrency: 2, maxPendingJobs: 9 });
        await next.start();
        const ids = new Set(sent.map(({ uploads }) => uploads[0]?.jobId ?? ""));
        ids.delete(cancelled);
        await until(async () => {
            let done = 0;
            for await (const job of next.jobs({ state: "done" })) if (ids.has(job.id)) done++;
            // Those that were told to wait themselves still do.
            return done >= 7;
        });
    });

    it("INVALID_OPTION for what is no source", () => {
        for (const name of ["slack", "https://files.example.org/", "HTTPS://files.example.org", "files.example.org"])
            expect(() => world.component({ sourceLimits: { [name]: {} } }), name)
                .to.throw(MediaError)
                .with.property("field", `sourceLimits.${name}`);
        const connectors = { slack: { open: async () => expect.fail() } };
        world.component({ connectors, sourceLimits: { slack: { perSecond: 0.5 }, "http://a:8080": {}, default: {} } });
    });
});

const source = { kind: "http", url: "https://blocked.example/" } as const;

/** Of that source, unless it says another. */
function ready(id: string, dueAt: number, more: Partial<Job> = {}): Job {
    return someJob({ id, contentUri: "mxc://a/b", source, dueAt, ...more });
}

describe("what becomes free in the middle of a look at the lists", () => {
    const due = Date.now() - 1000;
    const history = { heldFor: sourceKeyOf({ source }), backfill: true };

    /** The order in which jobs begin, where `open` is called in the first look of `queue` that reads the schedule. */
    async function orderOf(rowsBefore: number, parts: Partial<UploadQueueParts>, open: () => Promise<void>) {
        const store = new MemoryStore();
        await store.open();
        for (const job of [ready("first", due), ready("second", due + 1), ready("history", due * 3, history)])
            await store.commit(jobWrites(undefined, job));
        const keys = store.keys.bind(store);
        let opened: Promise<void> | undefined;
        store.keys = async function* (range) {
            let rows = 0;
            for await (const key of keys(range)) {
                if (range.collection === SCHEDULE && rows++ === rowsBefore) await (opened ??= open());
                yield key;
            }
            if (range.collection === SCHEDULE) await (opened ??= open());
        };
        const began: string[] = [];
        const queue = new UploadQueue({
            ...queueParts(),
            store,
            concurrency: 1,
            ...parts,
            transfer: async (job, ...more) => {
                began.push(job.id);
                return parts.transfer?.(job, ...more) ?? { size: 1, contentUri: "mxc://a/b" };
            },
        });
        return { queue, began, store };
    }

    for (const [when, rowsBefore] of [
        ["between two files", 1],
        ["behind them", 2],
    ] as const) {
        it(`a source, ${when}: is asked by nobody before the one it has just been refused to`, async () => {
            let now = 1000;
            const gate = new SourceGate({}, () => now);
            const opensAt = gate.failed({ source }, new MediaError("SOURCE_RATE_LIMITED", { retryAfterMs: 60_000 }));
            const { queue, began } = await orderOf(rowsBefore, { gate }, async () => {
                now = opensAt;
            });
            await queue.start();
            await until(() => began.length === 3);
            expect(began).to.deep.equal(["first", "second", "history"]);
            await queue.close();
        });

        it(`a place, ${when}: is given to nobody before the one who has just been left without`, async () => {
            const end = deferred();
            const { queue, began, store } = await orderOf(
                1 + rowsBefore,
                {
                    // Or nobody would look while the only place is taken.
                    smallFileConcurrency: 1,
                    transfer: async ({ id }) => {
                        if (id === "busy") await end.promise;
                        return { size: 1, contentUri: "mxc://a/b" };
                    },
                },
                async () => {
                    end.resolve();
                    await until(() => queue.active === 0);
                },
            );
            await store.commit(jobWrites(undefined, ready("busy", due - 1)));
            await queue.start();
            await until(() => began.length === 4);
            expect(began).to.deep.equal(["busy", "first", "second", "history"]);
            await queue.close();
        });
    }
});

describe("a large backlog of a blocked source", () => {
    const free = { source: { kind: "http", url: "https://free.example/" } } as const;
    const COUNT = Number(process.env["HELD_JOBS"] ?? 3000);
    let directory: string;
    let store: LevelStore;
    before(async () => {
        directory = await mkdtemp(join(tmpdir(), "held-"));
        store = new LevelStore(directory);
        await store.open(() => {});
    });
    after(async () => {
        await store.close();
        await rm(directory, { recursive: true, force: true });
    });

    it("is moved aside once, and read no more until its source is open; then it comes by due time", async () => {
        const due = Date.now() - 1_000_000;
        for (let from = 0; from < COUNT; from += 1000) {
            const jobs = Array.from({ length: 1000 }, (_, i) => ready(`blocked-${from + i}`, due + from + i));
            await store.commit(jobs.flatMap((blocked) => jobWrites(undefined, blocked)));
        }
        let reads = 0;
        const counting: Store = {
            open: async () => {},
            close: async () => {},
            commit: (writes) => store.commit(writes),
            range: (range) => store.range(range),
            get(collection, key) {
                reads++;
                return store.get(collection, key);
            },
            async *keys(range) {
                for await (const key of store.keys(range)) {
                    reads++;
                    yield key;
                }
            },
        };
        let blocked = true;
        const began: string[] = [];
        let queue: UploadQueue;
        const open = async (): Promise<void> => {
            queue = new UploadQueue({
                ...queueParts(),
                store: counting,
                concurrency: 1,
                transfer: async ({ id, source }) => {
                    began.push(id);
                    if (blocked && source.kind === "http" && source.url.includes("blocked"))
                        throw new MediaError("SOURCE_RATE_LIMITED", { retryAfterMs: 3_000_000 });
                    return { size: 1, contentUri: "mxc://a/b" };
                },
            });
            await queue.start();
        };
        const heap = (): number => (globalThis.gc?.(), process.memoryUsage().heapUsed / 2 ** 20);
        const before = { heap: heap(), at: performance.now() };
        await open();
        await until(async () => (await keysOf(store, HELD)).length === COUNT - 1, { limitMs: 60_000 });
        const movedMs = performance.now() - before.at;
        expect(began).to.deep.equal(["blocked-0"]);
        expect(reads).to.be.below(6 * COUNT);
        expect(heap() - before.heap).to.be.below(30);

        const pass = async (id: string): Promise<void> => {
            await store.commit(jobWrites(undefined, ready(id, Date.now(), free)));
            queue.poke();
            await until(() => began.includes(id));
        };
        reads = 0;
        for (let i = 0; i < 20; i++) await pass(`free-${i}`);
        expect(reads / 20).to.be.below(40);

        await queue!.close();
        blocked = false;
        began.length = 0;
        // Held ones and others are taken by one order.
        await store.commit(jobWrites(undefined, ready("early", due - 1, free)));
        await store.commit(jobWrites(undefined, ready("late", Date.now(), free)));
        const startedAt = performance.now();
        await open();
        const restartMs = performance.now() - startedAt;
        await until(() => began.length >= 50);
        expect(began.slice(0, 50)).to.deep.equal([
            "early",
            ...Array.from({ length: 49 }, (_, i) => `blocked-${i + 1}`),
        ]);
        await queue!.close();
        if (process.env["HELD_JOBS"] !== undefined)
            console.log({ movedMs, restartMs, readsForOne: reads / 20, heapMiB: heap() - before.heap });
    });
});

async function keysOf(store: Store, collection: string): Promise<string[]> {
    const keys: string[] = [];
    for await (const key of store.keys({ collection })) keys.push(key);
    return keys;
}
