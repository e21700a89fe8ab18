import { join } from "node:path";
import { expect } from "chai";
import { Followers } from "../../src/bridge/dedupe/followers.ts";
import { KnownFiles } from "../../src/bridge/dedupe/known-files.ts";
import { loadShared, pendingFile } from "../../src/bridge/dedupe/shared-file.ts";
import { Turns } from "../../src/bridge/dedupe/turns.ts";
import { jobEndWrites } from "../../src/bridge/records.ts";
import type { MediaItem, RemoteMessage } from "../../src/index.ts";
import { MediaError } from "../../src/errors.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Range, Write } from "../../src/store/store.ts";
import type { Job } from "../../src/uploads/job.ts";
import { FOLLOWING, jobWrites, loadJob, placeWrites, SCHEDULE } from "../../src/uploads/job-records.ts";
import { transition } from "../../src/uploads/transition.ts";
import { deferred } from "../../src/deferred.ts";
import { KeyedLocks } from "../../src/uploads/keyed-locks.ts";
import { type Release, releaseWrites } from "../../src/uploads/release.ts";
import { someJob } from "../support/job.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes, startRemote } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const BYTES = someBytes(30_000);

describe("a file that is on its way when another message wants it", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    function sticker(url: string, item: Partial<MediaItem> = { dedupeKey: "sticker/1" }): RemoteMessage {
        return photoMessage(roomId, alice, { kind: "http", url }, {}, item);
    }

    /** A file whose server answers only when it is let. */
    function gated(path: string) {
        const { promise, resolve } = deferred();
        const url = remote.on(path, (_request, response) => {
            void promise.then(() => response.writeHead(200, { "content-length": BYTES.length }).end(BYTES));
        });
        return { url, open: resolve };
    }

    const isAsked = (path: string): boolean => remote.requests.some(({ url }) => url === path);

    /** A component with few places, and how often each job was told of as ready. */
    async function started(concurrency = 1) {
        const media = world.component({ concurrency, smallFileConcurrency: 0 });
        await media.start();
        const ready = new Map<string, number>();
        media.on("job", ({ id, state }) => void (state === "ready" && ready.set(id, (ready.get(id) ?? 0) + 1)));
        return { media, ready };
    }

    it("follows with its event, although no place is free for a turn", async () => {
        const { url, open } = gated("/sticker");
        const { media, ready } = await started();
        const first = await media.send(sticker(url));
        await until(() => isAsked("/sticker"));
        const second = await media.send(sticker(url));
        const [upload] = second.uploads;
        await until(() => ready.get(upload?.jobId ?? "") === 2, { what: "one that is ready, and follows" });
        open();
        expect((await upload?.done)?.contentUri).to.equal((await first.uploads[0]?.done)?.contentUri);
    });

    it("begins in the commit of its event where a place is free, and leads", async () => {
        const { media } = await started(2);
        const [idle] = (await media.send(sticker(remote.file(BYTES), {}))).uploads;
        await idle?.done;
        const { url, open } = gated("/sticker");
        const { uploads } = await media.send(sticker(url));
        const states = new Map<string, string>();
        for await (const { id, state } of media.jobs()) states.set(id, state);
        expect(states.get(uploads[0]?.jobId ?? "")).to.equal("transferring");
        open();
        expect((await uploads[0]?.done)?.state).to.equal("done");
    });

    for (const [end, event] of [
        ["was cancelled", { type: "cancel", at: 0 }],
        ["failed", { type: "fail", at: 0, error: new MediaError("SOURCE_NOT_FOUND") }],
    ] as const) {
        it(`does not follow one that ${end} just before the process ended, and nobody had noticed`, async () => {
            const { url } = gated("/sticker");
            const { media } = await started();
            const { uploads } = await media.send(sticker(url));
            await until(() => isAsked("/sticker"));
            await media.close();
            const store = new LevelStore(join(world.dataDir, "journal"));
            await store.open(() => {});
            const job = await loadJob(store, uploads[0]?.jobId ?? "");
            const ended = job && transition(job, { ...event, at: Date.now() });
            if (job === undefined || ended === undefined) throw new Error("no job that can end");
            await store.commit([...jobWrites(job, ended), ...jobEndWrites(job, ended)]);
            await store.close();
            const { media: next } = await started();
            const sent = await next.send(sticker(remote.file(BYTES)));
            expect((await sent.uploads[0]?.done)?.state).to.equal("done");
        });
    }

    it("does not wait for one whose source is closed, before that has had a turn", async () => {
        const { media } = await started(2);
        const limited = remote.on("/limited", (_request, response) => {
            response.writeHead(429, { "retry-after": "600" }).end();
        });
        await media.send(sticker(limited, {}));
        await until(() => isAsked("/limited"));
        await media.send(sticker(remote.file(BYTES)));
        const elsewhere = await startRemote();
        const { uploads } = await media.send(sticker(elsewhere.file(BYTES)));
        expect((await uploads[0]?.done)?.state).to.equal("done");
        expect(remote.requests).to.have.length(1);
        await elsewhere.close();
    });

    it("gives up the place at its source that its probe had", async () => {
        const { url, open } = gated("/sticker");
        const media = world.component({ sourceLimits: { [remote.url]: { concurrency: 2 } } });
        await media.start();
        const first = await media.send(sticker(url));
        await until(() => isAsked("/sticker"));
        // More than sockets hold, and never to its end.
        const endless = remote.on(
            "/probed",
            (_request, response) => void response.writeHead(200).write(someBytes(2_000_000)),
        );
        const second = await media.send(sticker(endless, { dedupeKey: "sticker/1", probeHeaders: true }));
        const other = await media.send(sticker(remote.file(BYTES), {}));
        expect((await other.uploads[0]?.done)?.state, "also while the first is on its way").to.equal("done");
        open();
        for (const { uploads } of [first, second]) expect((await uploads[0]?.done)?.state).to.equal("done");
    });

    it("does not wait for the turn of history", async () => {
        const other = gated("/other");
        const { media } = await started();
        const occupying = await media.send(sticker(other.url, {}));
        await until(() => isAsked("/other"));
        const { url, open } = gated("/sticker");
        open();
        const old = await media.send({ ...sticker(url), backfill: true });
        // Due behind a picture that is new, and before all history.
        const picture = gated("/picture");
        const fresh = await media.send(sticker(url));
        const last = await media.send(sticker(picture.url, {}));
        other.open();
        await occupying.uploads[0]?.done;
        expect((await fresh.uploads[0]?.done)?.state).to.equal("done");
        picture.open();
        for (const { uploads } of [old, last]) expect((await uploads[0]?.done)?.state).to.equal("done");
    });

    it("may take the leader's place also when it had failed before, and was given new tries", async () => {
        let isThere = false;
        const url = remote.on("/mine", (_request, response) => {
            if (isThere) response.writeHead(200, { "content-length": BYTES.length }).end(BYTES);
            else response.writeHead(404).end();
        });
        const { media, ready } = await started(2);
        const [mine] = (await media.send(sticker(url))).uploads;
        expect(await mine?.done.catch(({ code }) => code)).to.equal("SOURCE_NOT_FOUND");
        const other = gated("/other");
        const [leader] = (await media.send(sticker(other.url))).uploads;
        await until(() => isAsked("/other"));
        isThere = true;
        ready.clear();
        await media.retry(mine?.jobId ?? "");
        await until(() => ready.get(mine?.jobId ?? "") === 2, { what: "one that is ready, and follows" });
        await media.cancel(leader?.jobId ?? "");
        await until(async () => {
            for await (const { id, state } of media.jobs()) if (id === mine?.jobId) return state === "done";
            return false;
        });
        other.open();
    });

    it("is done with it when it is there by the time of its event, also where no place is free", async () => {
        const { url, open } = gated("/sticker");
        const other = gated("/other");
        const { media } = await started();
        const first = await media.send(sticker(url));
        await until(() => isAsked("/sticker"));
        let refused = 0;
        const letThrough = world.homeserver.intercept(({ method, path }) => {
            if (method !== "PUT" || !path.includes("/send/")) return undefined;
            refused++;
            return { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 20 } };
        });
        const sending = media.send(sticker(url));
        await until(() => refused > 0);
        const occupying = await media.upload({ kind: "http", url: other.url }, { userId: alice });
        open();
        await first.uploads[0]?.done;
        await until(() => isAsked("/other"));
        letThrough();
        const { uploads } = await sending;
        expect((await uploads[0]?.done)?.state).to.equal("done");
        other.open();
        await occupying.done;
    });
});

/** A store in which something may happen right after each look at who follows. */
class Interrupted extends MemoryStore {
    #looks = 0;
    /** @param look How many there were, this one included. */
    interrupt: (look: number) => Promise<void> = async () => {};

    override async *keys(range: Range): AsyncIterable<string> {
        yield* super.keys(range);
        if (range.collection === FOLLOWING) await this.interrupt(++this.#looks);
    }
}

/** A store on a disk that may be full. */
class Refusing extends MemoryStore {
    isRefusing = false;

    override async commit(writes: readonly Write[]): Promise<void> {
        if (this.isRefusing) throw new MediaError("STORE_WRITE_FAILED");
        return super.commit(writes);
    }
}

function decider(store: MemoryStore) {
    const files = new KnownFiles(store, () => {});
    const jobLocks = new KeyedLocks();
    const leaderless: string[] = [];
    const onLeaderless = (key: string): void => void leaderless.push(key);
    const hastened: [jobId: string, dueAt: number][] = [];
    const hasten = (...call: [string, number]): void => void hastened.push(call);
    const silent = { alongside: () => [], onJob: () => {}, onTurn: () => {} };
    const followers = new Followers({ store, jobLocks, ...silent });
    const turns = new Turns({ store, files, followers, jobLocks, hasten, onLeaderless, ...silent });
    return { files, leaderless, hastened, turns };
}

const nothing = (): void => {};
const withTurn = (job: Job): Release => ({ ...releaseWrites(job), confirm: nothing, undo: nothing });
/** As in a bridge that is idle. */
const atOnce = (job: Job, mayLead: boolean): Release => ({ ...withTurn(job), isBegun: mayLead });

describe("who leads a file that several want", () => {
    const key = "file";
    const address = { contentUri: "mxc://example.org/1" };
    /** Of an upload() whose caller was told of it. */
    const given = { messageId: undefined, isGivenOut: true, contentUri: "mxc://example.org/0" } as const;

    function job(id: string, more: Partial<Job>): Job {
        return someJob({ id, state: "reserved", messageId: id, dedupe: key, ...address, ...more });
    }

    for (const looks of [1, 2, 3, 4]) {
        it(`is one that begins to follow while the leader's failure is looked at (after look ${looks})`, async () => {
            const second = job("second", {});
            const store = new Interrupted();
            await store.open();
            const { turns, files } = decider(store);
            store.interrupt = async (look) => {
                if (look === looks) await store.commit(turns.release(second, atOnce).writes);
            };
            const error = { code: "SOURCE_NOT_FOUND", message: "" } as const;
            await store.commit(jobWrites(undefined, job("first", { state: "failed", error })));
            await store.commit(jobWrites(undefined, second));
            await store.commit(files.set(key, pendingFile(key, "@a:example.org", address, "first")));
            await turns.tend(key);
            const after = await loadJob(store, "second");
            expect(after).to.not.have.property("follows", true);
            expect(after?.state).to.be.oneOf(["reserved", "ready"]);
        });
    }

    it("is still the same when the journal did not take that another one leads", async () => {
        const store = new Refusing();
        await store.open();
        const { turns, files } = decider(store);
        const first = job("first", { state: "transferring", dueAt: 1 });
        await store.commit(jobWrites(undefined, first));
        await store.commit(jobWrites(undefined, job("second", { state: "ready", dueAt: 2, follows: true })));
        await store.commit(files.set(key, pendingFile(key, "@a:example.org", address, "first")));
        store.isRefusing = true;
        expect(await turns.handOver(first, new MediaError("SOURCE_NOT_FOUND"))).to.equal(false);
        store.isRefusing = false;
        expect(turns.mayHaveLed(key, "first")).to.equal(true);
    });

    async function withFile(leader?: string) {
        const store = new MemoryStore();
        await store.open();
        const { turns, files, leaderless, hastened } = decider(store);
        for (const id of ["first", "second"]) await store.commit(jobWrites(undefined, job(id, {})));
        await store.commit(files.set(key, pendingFile(key, "@a:example.org", address, leader)));
        const stored = async (id: string) => (await loadJob(store, id)) ?? job(id, {});
        const release = async (id: string, own = atOnce) => {
            const released = turns.release(await stored(id), own);
            await store.commit(released.writes);
            released.confirm();
        };
        return { store, files, turns, leaderless, hastened, release, stored };
    }

    it("is who begins in the commit of its event", async () => {
        const { store, turns, release, stored } = await withFile();
        await release("first");
        expect(await loadShared(store, key)).to.include({ leader: "first" });
        await release("second");
        expect(await stored("second")).to.include({ state: "ready", follows: true });
        expect(turns.mayHaveLed(key, "first")).to.equal(true);
    });

    it("is nobody before one has a place", async () => {
        const { store, release, stored } = await withFile();
        for (const id of ["first", "second"]) await release(id, withTurn);
        expect(await loadShared(store, key)).not.to.have.property("leader");
        for (const id of ["first", "second"]) expect(await stored(id)).not.to.have.property("follows", true);
    });

    // Transferring: a crash cut its upload off.
    for (const state of ["unreserved", "transferring"] as const)
        it(`is left to lead by one that has no address, whose message waits for its upload (${state})`, async () => {
            const { store, turns, release, stored } = await withFile();
            await release("first");
            const waitedFor = job("second", { state, contentUri: undefined });
            await store.commit(jobWrites(undefined, waitedFor));
            expect(await turns.beforeBegin(waitedFor)).to.include({ id: "second", state });
            expect(await loadShared(store, key)).to.include({ leader: "first" });
            expect(await stored("second")).not.to.have.property("follows", true);
        });

    it("is one of two whose turns come together", async () => {
        // The other one's event is accepted at each moment of the decision.
        for (let moment = 0; moment < 40; moment++) {
            const { store, turns, release, stored } = await withFile();
            await store.commit(jobWrites(undefined, job("second", { state: "ready", dueAt: 1 })));
            const begun = turns.beforeBegin(job("second", { state: "ready", dueAt: 1 }));
            for (let i = 0; i < moment; i++) await Promise.resolve();
            let leads = false;
            const first = release("first", (own, mayLead) => {
                leads = mayLead;
                return atOnce(own, mayLead);
            });
            await Promise.all([begun, first]);
            expect((await begun) === undefined, `after ${moment} microtasks`).to.equal(leads);
            expect(await loadShared(store, key)).to.include({ leader: leads ? "first" : "second" });
            expect((await stored("second")).follows).to.equal(leads ? true : undefined);
        }
    });

    it("is another one when the journal did not take the first one's beginning", async () => {
        const { store, turns, leaderless, release, stored } = await withFile();
        const refused = turns.release(await stored("first"), atOnce);
        // Handed to the store behind that one, and taken by the disk.
        const following = turns.release(await stored("second"), atOnce);
        refused.undo();
        expect(leaderless).to.deep.equal([key]);
        await store.commit(following.writes);
        following.confirm();
        expect(leaderless, "there may be followers by now").to.deep.equal([key, key]);
        expect(await stored("second")).to.include({ follows: true });
        await turns.tend(key);
        expect(await stored("second")).not.to.have.property("follows", true);
        expect(await loadShared(store, key)).to.include({ leader: "second" });
        await release("first");
        expect(await stored("first")).to.include({ follows: true });
    });

    it("is the follower that is due first when the leader's source gives nothing, also with history before it", async () => {
        const { store, turns, stored } = await withFile("gone");
        const error = { code: "SOURCE_NOT_FOUND", message: "" } as const;
        await store.commit(jobWrites(undefined, job("gone", { state: "failed", error })));
        const follower = { state: "ready", follows: true } as const;
        // More than are read at once.
        for (let i = 0; i < 100; i++)
            await store.commit(jobWrites(undefined, job(`a${i}`, { ...follower, dueAt: 90_000_000, backfill: true })));
        await store.commit(jobWrites(undefined, job("b", { ...follower, dueAt: 1000 })));
        await turns.tend(key);
        expect(await stored("b"))
            .to.include({ state: "ready", dueAt: 1000 })
            .and.not.to.have.property("follows");
        expect(await loadShared(store, key)).to.include({ leader: "b" });
    });

    it("is the message's follower when an upload has lost its address, also behind more uploads than are read at once", async () => {
        const { store, turns, stored } = await withFile("gone");
        const error = { code: "RESERVATION_GONE", message: "" } as const;
        const upload = { messageId: undefined, isGivenOut: true } as const;
        const follower = { state: "ready", follows: true } as const;
        await store.commit(jobWrites(undefined, job("gone", { state: "failed", error, ...upload })));
        for (let i = 0; i < 200; i++)
            await store.commit(jobWrites(undefined, job(`a${i}`, { ...follower, ...upload, dueAt: 1000 + i })));
        await store.commit(jobWrites(undefined, job("b", { ...follower, dueAt: 2000 })));
        await turns.tend(key);
        expect(await stored("b"))
            .to.include({ state: "ready" })
            .and.not.to.have.property("follows");
        expect(await loadShared(store, key)).to.include({ leader: "b" });
        expect(await stored("a0"), "it waits for that one's end").to.include({ follows: true });
    });

    it("leaves nobody following when nobody can go on, however many follow", async () => {
        const { store, turns, stored } = await withFile("gone");
        const error = { code: "SOURCE_NOT_FOUND", message: "" } as const;
        const follower = { state: "ready", follows: true } as const;
        await store.commit(jobWrites(undefined, job("gone", { state: "cancelled" })));
        // Their address is with their callers, has ended, and is not the file's any more.
        const leftBehind = { ...given, expiresAt: 1 };
        for (let i = 0; i < 200; i++)
            await store.commit(jobWrites(undefined, job(`a${i}`, { ...follower, ...leftBehind, dueAt: 1000 + i })));
        await store.commit(jobWrites(undefined, job("b", { ...follower, dueAt: 2000, error })));
        await turns.tend(key);
        const states = await Promise.all(["a0", "a199", "b"].map(stored));
        expect(states.map(({ state, error: why }) => `${state} ${why?.code}`)).to.deep.equal([
            "failed RESERVATION_GONE",
            "failed RESERVATION_GONE",
            "failed SOURCE_NOT_FOUND",
        ]);
    });

    describe("where the address that a caller has is the file's no more", () => {
        const lasting = { ...given, state: "ready", dueAt: 1000 } as const;
        const ends = {
            "still lives": { expiresAt: Date.now() + 86_400_000 },
            "may still live": {},
            "has ended": { expiresAt: 1 },
        } as const;
        for (const [how, more] of Object.entries(ends)) {
            const isOver = how === "has ended";
            const expected = isOver
                ? { state: "failed" }
                : { state: "ready", dueAt: 1000, contentUri: given.contentUri };

            it(`goes on with that at its turn, whoever leads, while it ${how}`, async () => {
                const { store, turns, stored } = await withFile("first");
                for (const state of ["ready", "done", "failed"] as const) {
                    await store.commit(jobWrites(undefined, job("first", { state, dueAt: 1 })));
                    await store.commit(jobWrites(undefined, job("given", { ...lasting, ...more })));
                    expect(await turns.beforeBegin(await stored("given")), state).to.equal(undefined);
                    expect(await stored("given")).to.include(expected);
                    expect((await stored("given")).error?.code).to.equal(isOver ? "RESERVATION_GONE" : undefined);
                    const begun = await turns.beforeBegin(await stored("given"));
                    expect(begun?.id, state).to.equal(isOver ? undefined : "given");
                    expect(await loadShared(store, key)).to.include({ leader: "first" });
                }
            });

            for (const [moment, leader] of [
                ["once it is", { state: "replaced", replacedBy: "second" }],
                ["when the file has come elsewhere", { state: "done" }],
            ] as const)
                it(`and it follows, goes on ${moment} while that ${how}`, async () => {
                    const { store, files, turns, stored } = await withFile("first");
                    const elsewhere = { contentUri: "mxc://example.org/2", state: "ready", dueAt: 5 } as const;
                    await store.commit(jobWrites(undefined, job("first", { dueAt: 1, ...leader })));
                    await store.commit(jobWrites(undefined, job("second", elsewhere)));
                    if (leader.state === "done")
                        await files.change(key, { ...pendingFile(key, "@a:example.org", address), state: "uploaded" });
                    const own = leader.state === "done" ? given : address;
                    for (const id of ["given", "other"])
                        await store.commit(
                            jobWrites(undefined, job(id, { ...lasting, ...own, ...more, follows: true })),
                        );
                    await store.commit(
                        jobWrites(undefined, job("message", { state: "ready", dueAt: 9, follows: true })),
                    );
                    await turns.tend(key);
                    for (const id of ["given", "other"]) {
                        const { state, follows, error, contentUri } = await stored(id);
                        expect({ state, follows, code: error?.code, contentUri }).to.deep.equal({
                            state: expected.state,
                            follows: undefined,
                            code: isOver ? "RESERVATION_GONE" : undefined,
                            contentUri: own.contentUri,
                        });
                    }
                    const { state } = await stored("message");
                    expect(state).to.equal(leader.state === "done" ? "done" : "ready");
                });
        }

        it("is known by its end while it follows, as no message's is", async () => {
            const { store, turns, stored } = await withFile("first");
            await store.commit(jobWrites(undefined, job("first", { state: "ready", dueAt: 1 })));
            const expiresAt = Date.now() + 86_400_000;
            await store.commit(jobWrites(undefined, job("given", { ...lasting, ...address, expiresAt })));
            await store.commit(jobWrites(undefined, job("second", { state: "ready", dueAt: 2, expiresAt })));
            for (const id of ["given", "second"]) await turns.beforeBegin(await stored(id));
            expect(await stored("given")).to.include({ follows: true, expiresAt });
            expect(await stored("second"))
                .to.include({ follows: true })
                .and.not.to.have.property("expiresAt");
        });

        it("has ended with that where the homeserver has lost it", async () => {
            const { store, turns, stored } = await withFile("first");
            await store.commit(jobWrites(undefined, job("first", { state: "replaced", replacedBy: "second" })));
            const next = { contentUri: "mxc://example.org/2", state: "ready", dueAt: 5, addressesLost: 1 } as const;
            await store.commit(jobWrites(undefined, job("second", next)));
            const follower = { ...lasting, ...address, expiresAt: Date.now() + 86_400_000, follows: true };
            await store.commit(jobWrites(undefined, job("given", follower)));
            await turns.tend(key);
            expect((await stored("given")).error?.code).to.equal("RESERVATION_GONE");
        });

        describe("because its leader has got another one", () => {
            async function movedAway() {
                const { store, ...rest } = await withFile("first");
                await store.commit(jobWrites(undefined, job("first", { state: "replaced", replacedBy: "second" })));
                const next = { contentUri: "mxc://example.org/2", state: "transferring", dueAt: 5 } as const;
                await store.commit(jobWrites(undefined, job("second", next)));
                await store.commit(jobWrites(undefined, job("given", { ...lasting, ...address, follows: true })));
                return { store, ...rest, second: job("second", next) };
            }

            for (const how of ["the disk refused that", "the process ended meanwhile"] as const)
                it(`goes on with its own also where ${how}`, async () => {
                    const { store, turns, stored } = await movedAway();
                    const commit = store.commit.bind(store);
                    store.commit = async (writes) => {
                        if (writes.some((write) => write.key === "given")) throw new MediaError("STORE_WRITE_FAILED");
                        return commit(writes);
                    };
                    const refused = await turns.tend(key).catch(({ code }: MediaError) => code);
                    expect(refused).to.equal("STORE_WRITE_FAILED");
                    store.commit = commit;
                    await (how === "the disk refused that" ? turns : decider(store).turns).tend(key);
                    expect(await stored("given")).not.to.have.property("follows");
                    const moved = { leader: "second", contentUri: "mxc://example.org/2" };
                    expect(await loadShared(store, key)).to.include(moved);
                });

            it("does not take it from the file that has come there meanwhile", async () => {
                const { store, turns, second } = await movedAway();
                const get = store.get.bind(store);
                let reads = 0;
                store.get = async (collection, id) => {
                    const record = await get(collection, id);
                    if (id !== "first" || ++reads !== 2) return record;
                    const end = { type: "finish", size: 1, contentUri: "mxc://example.org/2", at: 1 } as const;
                    const done = transition(second, end) ?? second;
                    await store.commit([...jobWrites(second, done), ...turns.finishWrites(second, done)]);
                    return record;
                };
                await turns.tend(key);
                expect(reads).to.be.above(1);
                expect(await loadShared(store, key)).to.include({ state: "uploaded" });
            });
        });

        it("has its next turn in the schedule, also where it was held for its source before", async () => {
            const { store, turns, stored } = await withFile("first");
            const presigned = { url: "https://storage.example/", method: "PUT" } as const;
            const held = { ...lasting, heldFor: "http://example.org", presigned };
            await store.commit(jobWrites(undefined, job("first", { state: "ready", dueAt: 1 })));
            await store.commit(jobWrites(undefined, job("given", held)));
            await turns.beforeBegin(await stored("given"));
            const given = await stored("given");
            expect(placeWrites(given).map(({ collection }) => collection)).to.deep.equal([SCHEDULE]);
            expect(given.presigned, "where its bytes are to go").to.deep.equal(presigned);
        });

        it("is filled once, for all who have it: the others' address stays the file's", async () => {
            const { store, turns, stored } = await withFile("first");
            await store.commit(jobWrites(undefined, job("first", { state: "cancelled" })));
            const all = ["turn", "waiting", "following"];
            for (const id of all)
                await store.commit(jobWrites(undefined, job(id, { ...lasting, follows: id === "following" })));
            await turns.tend(key);
            for (const id of all.slice(0, 2)) await turns.beforeBegin(await stored(id));
            const begun = [];
            for (const id of all) begun.push((await turns.beforeBegin(await stored(id)))?.id);
            expect(begun).to.deep.equal(["turn", undefined, undefined]);
            const leading = await stored("turn");
            const underWay = transition(leading, { type: "begin" }) ?? leading;
            const end = { type: "finish", size: 1, contentUri: given.contentUri, at: 1 } as const;
            const done = transition(underWay, end) ?? leading;
            await store.commit([...jobWrites(leading, done), ...turns.finishWrites(underWay, done)]);
            await turns.tend(done.dedupe ?? "");
            for (const id of all) expect(await stored(id)).to.include({ state: "done", contentUri: given.contentUri });
            expect(await loadShared(store, key)).to.include({ ...address, state: "pending" });
        });
    });

    describe("where history leads", () => {
        const old = { state: "ready", backfill: true, dueAt: 90_000_000 } as const;
        const live = { state: "ready", dueAt: 1000 } as const;
        const following = { follows: true } as const;

        it("is still that one, told of what is new and follows, at its turn or with its event", async () => {
            const { store, turns, hastened, release, stored } = await withFile("first");
            await store.commit(jobWrites(undefined, job("first", old)));
            await store.commit(jobWrites(undefined, job("turn", live)));
            expect(await turns.beforeBegin(await stored("turn"))).to.equal(undefined);
            expect(await stored("turn")).to.include(following);
            expect(hastened).to.deep.equal([["first", 1000]]);
            await release("second", withTurn);
            const { dueAt } = await stored("second");
            expect(hastened.slice(1)).to.deep.equal([["first", dueAt]]);
            await store.commit(jobWrites(undefined, job("third", { ...old, ...following })));
            await store.commit(jobWrites(undefined, job("more", old)));
            expect(await turns.beforeBegin(await stored("more"))).to.equal(undefined);
            expect(hastened, "of history it is not told").to.have.length(2);
        });

        // As after a restart, and when its address was replaced.
        for (const state of ["ready", "replaced"] as const)
            it(`is told of the first of those that are new and follow (it is ${state})`, async () => {
                const { store, turns, hastened } = await withFile("gone");
                await store.commit(jobWrites(undefined, job("gone", { ...old, state, replacedBy: "next" })));
                await store.commit(jobWrites(undefined, job("next", { ...old, contentUri: "mxc://example.org/2" })));
                const bound = { messageId: undefined, isGivenOut: true } as const;
                await store.commit(jobWrites(undefined, job("bound", { ...old, ...bound, ...following, dueAt: 500 })));
                for (const dueAt of [2000, 1000])
                    await store.commit(jobWrites(undefined, job(`live ${dueAt}`, { ...live, ...following, dueAt })));
                await store.commit(jobWrites(undefined, job("old", { ...old, ...following })));
                await turns.tend(key);
                expect(hastened).to.deep.equal([[state === "ready" ? "gone" : "next", 1000]]);
            });

        it("and takes over from what is new, is told of that", async () => {
            const { store, turns, hastened, stored } = await withFile("first");
            await store.commit(jobWrites(undefined, job("first", { ...live, state: "transferring" })));
            await store.commit(jobWrites(undefined, job("second", { ...old, ...following })));
            expect(await turns.handOver(await stored("first"), new MediaError("SOURCE_NOT_FOUND"))).to.equal(true);
            expect(hastened).to.deep.equal([["second", 1000]]);
        });

        it("and takes over, does so also where it cannot be seen just then whether anybody is new", async () => {
            const store = new Interrupted();
            await store.open();
            const { turns, files, leaderless } = decider(store);
            const first = job("first", { ...live, state: "transferring" });
            await store.commit(jobWrites(undefined, first));
            await store.commit(jobWrites(undefined, job("second", { ...old, ...following })));
            await store.commit(files.set(key, pendingFile(key, "@a:example.org", address, "first")));
            store.interrupt = async (look) => {
                if (look > 1) throw new MediaError("STORE_READ_FAILED");
            };
            expect(await turns.handOver(first, new MediaError("SOURCE_NOT_FOUND"))).to.equal(true);
            expect(leaderless, "it is looked at again").to.deep.equal([key]);
        });

        it("is told of nobody where only history follows, and not all of that is gone through", async () => {
            const { store, turns, hastened } = await withFile("first");
            await store.commit(jobWrites(undefined, job("first", old)));
            for (let i = 0; i < 200; i++)
                await store.commit(jobWrites(undefined, job(`a${i}`, { ...old, ...following })));
            let reads = 0;
            const get = store.get.bind(store);
            store.get = (...row) => {
                reads++;
                return get(...row);
            };
            await turns.tend(key);
            expect(hastened).to.deep.equal([]);
            expect(reads).to.be.below(5);
        });
    });

    it("has its place in the schedule when it leads, also where it was held for its source before", () => {
        const ready = job("held", { state: "ready", dueAt: 5, heldFor: "http://example.org" });
        const following = transition(ready, { type: "follow", at: 1 });
        const lead = { type: "lead", address: { ...address, expiresAt: undefined }, dueAt: 5 } as const;
        const leading = following && transition(following, lead);
        expect(leading && placeWrites(leading).map(({ collection }) => collection)).to.deep.equal([SCHEDULE]);
    });
});
