import type { ServerResponse } from "node:http";
import { expect } from "chai";
import { OUTBOX } from "../../src/bridge/records.ts";
import { deferred } from "../../src/deferred.ts";
import { type BridgeMedia, type BridgeMediaOptions, MediaError } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

/** A disk that takes its time over what becomes of one room's messages, and may be full then. */
class SlowStore extends LevelStore {
    slowRoom = "";
    readonly #passed = deferred<boolean>();

    pass(isFull = false): void {
        this.#passed.resolve(isFull);
    }

    override async commit(writes: readonly Write[]): Promise<void> {
        const isOutcome = ({ collection, key, record }: Write): boolean =>
            collection === OUTBOX && record === undefined && key.startsWith(this.slowRoom);
        if (writes.some(isOutcome) && (await this.#passed.promise)) throw new MediaError("STORE_WRITE_FAILED");
        return super.commit(writes);
    }
}

describe("a source that is opened while its event is journaled", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let media: BridgeMedia;
    let store: SlowStore;
    // More than sockets hold for a reader who does not read.
    const bytes = someBytes(20_000_000);
    const answers: ServerResponse[] = [];

    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
        answers.length = 0;
    });
    afterEach(async () => {
        store.pass();
        await closeScene({ world, remote });
    });

    async function sending(options: Partial<BridgeMediaOptions> = {}, status = 200) {
        const slow = (directory: string): SlowStore => {
            store = new SlowStore(directory);
            store.slowRoom = roomId;
            return store;
        };
        media = world.component({ ...options, store: slow });
        await media.start();
        const url = remote.on("/photo", (_request, response) => {
            answers.push(response);
            response.writeHead(status, { "content-length": bytes.length }).end(bytes);
        });
        const sent = media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const isInRoom = (): boolean =>
            world.homeserver.requests.some(({ path, status }) => path.includes("/send/") && status === 200);
        await until(isInRoom);
        return { done: sent.then(({ uploads }) => uploads[0]?.done), sent };
    }

    it("is asked once, and what it gave is transferred", async () => {
        const { done } = await sending();
        await until(() => answers.length === 1);
        store.pass();
        expect((await done)?.state).to.equal("done");
        expect(answers).to.have.lengthOf(1);
    });

    it("is asked once also where it refuses", async () => {
        const { done } = await sending({}, 404);
        await until(() => answers.length === 1);
        store.pass();
        const error = await done.catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "SOURCE_NOT_FOUND" });
        expect(answers).to.have.lengthOf(1);
    });

    it("is left alone where it has limits", async () => {
        const { done } = await sending({ sourceLimits: { default: { concurrency: 3 } } });
        const other = await world.room(alice);
        for (let count = 0; count < 3; count++) await media.send(textMessage(other, alice, `${count}`));
        expect(answers).to.deep.equal([]);
        store.pass();
        expect((await done)?.state).to.equal("done");
    });

    it("is let go of when its job ends without a turn", async () => {
        const { sent } = await sending();
        const [answer] = await until(() => (answers.length === 1 ? answers : undefined));
        const closed = new Promise((resolve) => answer?.socket?.once("close", resolve));
        store.pass(true);
        for await (const { id } of media.jobs()) await media.cancel(id);
        await closed;
        sent.catch(() => {});
    });
});
