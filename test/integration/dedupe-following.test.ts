import { expect } from "chai";
import { Followers } from "../../src/bridge/dedupe/followers.ts";
import { KnownFiles } from "../../src/bridge/dedupe/known-files.ts";
import { pendingFile } from "../../src/bridge/dedupe/shared-file.ts";
import { Turns } from "../../src/bridge/dedupe/turns.ts";
import type { MediaItem, RemoteMessage } from "../../src/index.ts";
import { MediaError } from "../../src/errors.ts";
import type { Range, Write } from "../../src/store/store.ts";
import type { Job } from "../../src/uploads/job.ts";
import { FOLLOWING, jobWrites, loadJob, placeWrites, SCHEDULE } from "../../src/uploads/job-records.ts";
import { transition } from "../../src/uploads/transition.ts";
import { deferred } from "../../src/deferred.ts";
import { KeyedLocks } from "../../src/uploads/keyed-locks.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
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

/** A store in which something happens right after one of the looks at who follows. */
class Interrupted extends MemoryStore {
    #left: number;
    readonly #interrupt: () => Promise<void>;

    constructor(looks: number, interrupt: () => Promise<void>) {
        super();
        this.#left = looks;
        this.#interrupt = interrupt;
    }

    override async *keys(range: Range): AsyncIterable<string> {
        yield* super.keys(range);
        if (range.collection === FOLLOWING && --this.#left === 0) await this.#interrupt();
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

describe("one that begins to follow while its leader's failure is looked at", () => {
    const key = "file";
    const address = { contentUri: "mxc://example.org/1" };

    function job(id: string, more: Partial<Job>): Job {
        return {
            id,
            state: "reserved",
            uploader: "@a:example.org",
            source: { kind: "http", url: "http://example.org/" },
            createdAt: 0,
            backfill: false,
            messageId: id,
            attempts: 0,
            dedupe: key,
            ...address,
            ...more,
        };
    }

    for (const looks of [1, 2, 3, 4]) {
        it(`gets a turn of its own (after look ${looks})`, async () => {
            const second = job("second", {});
            const store: MemoryStore = new Interrupted(looks, async () => {
                const release = turns.release(second);
                if (release !== undefined) await store.commit(release.writes);
            });
            await store.open();
            const files = new KnownFiles(store);
            const jobLocks = new KeyedLocks();
            const silent = { alongside: () => [], onJob: () => {}, onTurn: () => {} };
            const followers = new Followers({ store, jobLocks, ...silent });
            const turns: Turns = new Turns({ store, files, followers, jobLocks, ...silent });
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

    it("is still looked after when the journal did not take that it leads", async () => {
        const store = new Refusing();
        await store.open();
        const files = new KnownFiles(store);
        const jobLocks = new KeyedLocks();
        const silent = { alongside: () => [], onJob: () => {}, onTurn: () => {} };
        const followers = new Followers({ store, jobLocks, ...silent });
        const turns = new Turns({ store, files, followers, jobLocks, ...silent });
        const first = job("first", { state: "transferring", dueAt: 1 });
        await store.commit(jobWrites(undefined, first));
        await store.commit(jobWrites(undefined, job("second", { state: "ready", dueAt: 2, follows: true })));
        await store.commit(files.set(key, pendingFile(key, "@a:example.org", address, "first")));
        store.isRefusing = true;
        expect(await turns.handOver(first, new MediaError("SOURCE_NOT_FOUND"))).to.equal(false);
        store.isRefusing = false;
        expect(turns.mayHaveLed(key, "first")).to.equal(true);
    });

    it("has its place in the schedule when it leads, also where it was held for its source before", () => {
        const ready = job("held", { state: "ready", dueAt: 5, heldFor: "http://example.org" });
        const following = transition(ready, { type: "follow", at: 1 });
        const lead = { type: "lead", address: { ...address, expiresAt: undefined }, dueAt: 5 } as const;
        const leading = following && transition(following, lead);
        expect(leading && placeWrites(leading).map(({ collection }) => collection)).to.deep.equal([SCHEDULE]);
    });
});
