import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { expect } from "chai";
import { deferred } from "../../src/deferred.ts";
import { MediaError } from "../../src/errors.ts";
import type { BridgeMediaOptions, RemoteMessage, SentMessage } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import type { Job } from "../../src/uploads/job.ts";
import { JOBS } from "../../src/uploads/job-records.ts";
import { OpenedAhead } from "../../src/uploads/sources/opened-ahead.ts";
import type { OpenedSource } from "../../src/uploads/sources/source.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const BYTES = someBytes(30_000);

describe("a source that is opened while the beginning of its transfer is being journaled", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    /** LevelDB, whose commit of a file's beginning takes as long as `disk` says. */
    class SlowStore extends LevelStore {
        disk: () => Promise<void> = async () => {};

        override async commit(writes: readonly Write[]): Promise<void> {
            const isBeginning = ({ collection, record }: Write): boolean =>
                collection === JOBS && (record as unknown as Job | undefined)?.state === "transferring";
            if (writes.some(isBeginning)) await this.disk();
            return super.commit(writes);
        }
    }

    async function started(connectors: BridgeMediaOptions["connectors"] = {}) {
        const store = new SlowStore(join(world.dataDir, "journal"));
        const media = world.component({ store: () => store, connectors });
        await media.start();
        // From here on the queue knows that nobody waits in its lists.
        await arrived(await media.send(photo(remote.file(someBytes(100)))));
        remote.requests.length = 0;
        return { media, store };
    }

    const photo = (url: string): RemoteMessage => photoMessage(roomId, alice, { kind: "http", url });

    async function arrived({ uploads: [upload] }: SentMessage): Promise<string | undefined> {
        return (await upload?.done)?.state;
    }

    const uploads = (): number =>
        world.homeserver.requests.filter(({ method, path }) => method === "PUT" && path.includes("/upload/")).length;

    /** A file whose first download stands still after its first byte; resolves when that one is let go of. */
    function stuck(): { url: string; letGo: Promise<unknown> } {
        const { promise, resolve } = deferred();
        let isFirst = true;
        const url = remote.on("/stuck", (_request, response) => {
            response.writeHead(200, { "content-length": BYTES.length });
            if (!isFirst) return void response.end(BYTES);
            isFirst = false;
            response.write(BYTES.subarray(0, 1));
            response.once("close", resolve);
        });
        return { url, letGo: promise };
    }

    const isAsked = (): Promise<unknown> => until(() => remote.requests.length > 0, { what: "a source that is asked" });

    it("is asked once its event is in the room, once, and nothing of it goes out before it is on disk", async () => {
        const { media, store } = await started();
        const { promise, resolve } = deferred();
        store.disk = () => promise;
        const before = uploads();
        const sending = media.send(photo(remote.file(BYTES)));
        await isAsked();
        expect(world.homeserver.events(roomId).filter(({ type }) => type === "m.room.message")).to.have.length(2);
        expect(uploads()).to.equal(before);
        resolve();
        expect(await arrived(await sending)).to.equal("done");
        expect(remote.requests).to.have.length(1);
    });

    it("is let go of when the disk refuses it, and opened anew when it does not", async () => {
        const { media, store } = await started();
        const { url, letGo } = stuck();
        let refusals = 0;
        store.disk = async () => {
            if (refusals++ > 0) return;
            await isAsked();
            throw new MediaError("STORE_WRITE_FAILED");
        };
        const sending = media.send(photo(url));
        await letGo;
        expect(await arrived(await sending)).to.equal("done");
        expect(remote.requests).to.have.length(2);
    });

    it("is let go of by a component that closes meanwhile", async () => {
        const { media, store } = await started();
        const { url, letGo } = stuck();
        const { promise, resolve } = deferred();
        store.disk = () => promise;
        const sending = media.send(photo(url)).catch(() => {});
        await isAsked();
        const closing = media.close();
        resolve();
        await Promise.all([closing, letGo, sending]);
    });

    it("is none where that means to call a connector", async () => {
        let calls = 0;
        const open = async () => {
            calls++;
            return { stream: Readable.from([BYTES]), size: BYTES.length };
        };
        const { media, store } = await started({ network: { open } });
        const [{ promise, resolve }, reached] = [deferred(), deferred()];
        store.disk = () => {
            reached.resolve();
            return promise;
        };
        const source = { kind: "connector", connector: "network", ref: 1 } as const;
        const sending = media.send(photoMessage(roomId, alice, source));
        await reached.promise;
        // In the turn of the loop behind the commit's a source would be opened.
        for (let turn = 0; turn < 3; turn++) await setImmediate();
        expect(calls).to.equal(0);
        resolve();
        expect(await arrived(await sending)).to.equal("done");
        expect(calls).to.equal(1);
    });

    it("is left to its transfer, whose signal ends it from then on", async () => {
        const ahead = new OpenedAhead(1000);
        const stream = new PassThrough();
        let life: AbortSignal | undefined;
        const letGo = ahead.begin("job", async (signal) => {
            life = signal;
            return { stream };
        });
        const transfer = new AbortController();
        const taken = ahead.take("job", transfer.signal);
        letGo();
        expect((await taken)?.stream).to.equal(stream);
        expect([stream.destroyed, life?.aborted]).to.deep.equal([false, false]);
        transfer.abort("over");
        expect(life?.reason).to.equal("over");
        expect(ahead.take("job", transfer.signal)).to.equal(undefined);
    });

    it("is closed also where it opens after it was let go of", async () => {
        const ahead = new OpenedAhead(1000);
        const stream = new PassThrough();
        const { promise, resolve } = deferred<OpenedSource>();
        ahead.begin("job", () => promise)();
        resolve({ stream });
        await setImmediate();
        expect(stream.destroyed).to.equal(true);
    });

    it("is opened anew where its commit takes too long", async () => {
        const ahead = new OpenedAhead(1);
        const stream = new PassThrough();
        ahead.begin("job", async () => ({ stream }));
        await until(() => stream.destroyed, { what: "a stream that is closed" });
        expect(ahead.take("job", new AbortController().signal)).to.equal(undefined);
    });
});
