import { expect } from "chai";
import type { BridgeMedia, MediaError } from "../../src/index.ts";
import { messages } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

type Request = { readonly method: string; readonly path: string };
const isCreate = ({ path }: Request): boolean => path.includes("/media/v1/create");
const isUpload = ({ method, path }: Request): boolean => method === "PUT" && path.includes("/upload/");
const gone = { status: 404, body: { errcode: "M_NOT_FOUND", error: "Media ID has expired" } };
/** Long enough to end who waits for it. */
const SLOW = { delayMs: 500 };

describe("an address whose file has ended before it is there", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    /** Those of `/create`, answered or not. */
    let asked: number;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
        asked = 0;
    });
    afterEach(() => closeScene({ world, remote }));

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
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        const [upload] = (await media.send(photo())).uploads;
        if (upload === undefined) throw new Error("no upload");
        await until(() => asked === 2);
        await media.cancel(upload.jobId);
        expect(await upload.done.catch((reason: MediaError) => reason)).to.include({ code: "CANCELLED" });
        // Waits for the answer, which is then journaled.
        await media.close();
        const next = world.component({ reserveAhead: 0 });
        await next.start();
        await expectNextFileToHaveIt(next);
    });

    it("is its own at the next start, after close()", async () => {
        loseTheFirst();
        const first = world.component({ reserveAhead: 0 });
        await first.start();
        const { eventId } = await first.send(photo());
        await until(() => asked === 2);
        await first.close();
        expect(unused()).to.equal(1);

        const second = world.component({ reserveAhead: 0 });
        await second.start();
        await until(() => unused() === 0);
        await until(() => messages(world.homeserver, roomId).length === 2);
        expect(JSON.stringify(messages(world.homeserver, roomId)[1])).to.include(eventId);
        expect(asked).to.equal(2);
    });

    it("is the next one's, where close() has ended the upload() that was to have it", async () => {
        world.homeserver.intercept((request) => (isCreate(request) && ++asked === 1 ? SLOW : undefined));
        const first = world.component({ reserveAhead: 0 });
        await first.start();
        const uploading = first
            .upload({ kind: "buffer", data: someBytes(10) }, { userId: alice })
            .catch((reason: MediaError) => reason);
        await until(() => asked === 1);
        await first.close();
        expect(await uploading).to.include({ code: "CLOSED" });
        expect(world.homeserver.pendingMedia(alice)).to.equal(1);

        const second = world.component({ reserveAhead: 0 });
        await second.start();
        const [upload] = (await second.send(photo())).uploads;
        expect(await upload?.done).to.include({ state: "done" });
        expect(asked).to.equal(1);
    });
});
