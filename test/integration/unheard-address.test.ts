import { expect } from "chai";
import { BridgeMedia, type BridgeMediaOptions, MediaError } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { messages } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { intentOf } from "../support/world.ts";

type Request = { readonly method: string; readonly path: string };
const isCreate = ({ path }: Request): boolean => path.includes("/media/v1/create");
const isUpload = ({ method, path }: Request): boolean => method === "PUT" && path.includes("/upload/");
const gone = { status: 404, body: { errcode: "M_NOT_FOUND", error: "Media ID has expired" } };
/** Long enough to end who waits for it. */
const SLOW = { delayMs: 500 };

/** On a disk that once does not give, or take, records of one kind. */
class Refusing extends LevelStore {
    read: string | undefined;
    written: string | undefined;

    override async get(collection: string, key: string) {
        if (this.read === collection) {
            this.read = undefined;
            throw new MediaError("STORE_READ_FAILED");
        }
        return super.get(collection, key);
    }

    override async commit(writes: readonly Write[]): Promise<void> {
        if (writes.some(({ collection, record }) => record !== undefined && this.written === collection)) {
            this.written = undefined;
            throw new MediaError("STORE_WRITE_FAILED");
        }
        return super.commit(writes);
    }
}

describe("an address whose file has ended before it is there", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    /** Those of `/create`, answered or not. */
    let asked: number;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
        asked = 0;
    });
    afterEach(() => closeScene({ world, remote }));

    /** Nothing is reserved but for a file. */
    const component = (options: Partial<BridgeMediaOptions> = {}) => world.component({ reserveAhead: 0, ...options });
    function refusing(): { media: BridgeMedia; disk: Refusing } {
        const disk = new Refusing(`${world.dataDir}/journal`);
        return { media: component({ store: () => disk }), disk };
    }

    const photo = () => photoMessage(roomId, alice, { kind: "buffer", data: someBytes(2000) });

    /** Without the one that is lost for good. */
    const unused = (): number => world.homeserver.pendingMedia(alice) - 1;

    /** The homeserver has lost the first file's address, and takes its time to give another. */
    function loseTheFirst(): void {
        let lost: string | undefined;
        world.homeserver.intercept((request) => {
            if (isUpload(request) && request.path === (lost ??= request.path)) return gone;
            return isCreate(request) && ++asked === 2 ? SLOW : undefined;
        });
    }

    async function expectNextFileToHaveIt(media: BridgeMedia): Promise<void> {
        expect(asked).to.equal(2);
        const [upload] = (await media.send(photo())).uploads;
        expect(await upload?.done).to.include({ state: "done" });
        expect(asked).to.equal(2);
        expect(unused()).to.equal(0);
    }

    it("is the next one's, after cancel()", async () => {
        loseTheFirst();
        const media = component();
        await media.start();
        const [upload] = (await media.send(photo())).uploads;
        if (upload === undefined) throw new Error("no upload");
        await until(() => asked === 2);
        await media.cancel(upload.jobId);
        expect(await upload.done.catch((reason: MediaError) => reason)).to.include({ code: "CANCELLED" });
        // Waits for the answer, which is then journaled.
        await media.close();
        const next = component();
        await next.start();
        await expectNextFileToHaveIt(next);
    });

    it("is its own at the next start, after close()", async () => {
        loseTheFirst();
        const first = component();
        await first.start();
        const { eventId } = await first.send(photo());
        await until(() => asked === 2);
        await first.close();
        expect(unused()).to.equal(1);

        const second = component();
        await second.start();
        await until(() => unused() === 0);
        await until(() => messages(world.homeserver, roomId).length === 2);
        expect(JSON.stringify(messages(world.homeserver, roomId)[1])).to.include(eventId);
        expect(asked).to.equal(2);
    });

    it("is the next one's, where close() has ended the upload() that was to have it", async () => {
        world.homeserver.intercept((request) => (isCreate(request) && ++asked === 1 ? SLOW : undefined));
        const first = component();
        await first.start();
        const uploading = first
            .upload({ kind: "buffer", data: someBytes(10) }, { userId: alice })
            .catch((reason: MediaError) => reason);
        await until(() => asked === 1);
        await first.close();
        expect(await uploading).to.include({ code: "CLOSED" });
        expect(world.homeserver.pendingMedia(alice)).to.equal(1);

        const second = component();
        await second.start();
        const [upload] = (await second.send(photo())).uploads;
        expect(await upload?.done).to.include({ state: "done" });
        expect(asked).to.equal(1);
    });

    it("is the next one's, where the disk refused to keep it", async () => {
        loseTheFirst();
        const { media, disk } = refusing();
        await media.start();
        const [upload] = (await media.send(photo())).uploads;
        await until(() => asked === 2);
        await media.cancel(upload?.jobId ?? "");
        disk.written = "reservation";
        await until(() => disk.written === undefined);
        await expectNextFileToHaveIt(media);
    });

    it("is still its own, where the journal could not be read just then", async () => {
        const { media, disk } = refusing();
        world.homeserver.intercept((request) => {
            if (isCreate(request) && ++asked === 1) disk.read = "job";
            return undefined;
        });
        await media.start();
        const [upload] = (await media.send(photo())).uploads;
        expect(await upload?.done).to.include({ state: "done" });
        expect(disk.read).to.equal(undefined);
        expect(asked).to.equal(1);
    });

    it("is still its own, where it has lost one before and the journal could not be read just then", async () => {
        const { media, disk } = refusing();
        loseTheFirst();
        await media.start();
        const [upload] = (await media.send(photo())).uploads;
        await until(() => asked === 2);
        disk.read = "message";
        await upload?.done;
        expect(disk.read).to.equal(undefined);
        expect(asked).to.equal(2);
    });

    it("keeps no close() waiting whose ghost's registration never ends", async () => {
        let isRegistering = false;
        const ensureRegistered = (): Promise<never> => {
            isRegistering = true;
            return new Promise(() => {});
        };
        const bridge = {
            getIntent: (userId?: string) => ({ ...intentOf(world.bridge, userId ?? world.bot), ensureRegistered }),
        };
        world.homeserver.intercept((request) =>
            isCreate(request) ? { status: 403, body: { errcode: "M_FORBIDDEN", error: "no" } } : undefined,
        );
        const media = new BridgeMedia(bridge, { dataDir: world.dataDir, allowPrivateAddresses: true });
        await media.start();
        const uploading = media
            .upload({ kind: "buffer", data: someBytes(10) }, { userId: alice })
            .catch(({ code }: MediaError) => code);
        await until(() => isRegistering);
        await media.close();
        expect(await uploading).to.equal("CLOSED");
    });
});
