import { Readable } from "node:stream";
import { expect } from "chai";
import { deferred } from "../../src/deferred.ts";
import { MediaError } from "../../src/errors.ts";
import { BridgeMedia, type CryptoLike } from "../../src/index.ts";
import { readable, standInCrypto, withCrypto } from "../support/crypto.ts";
import { edits } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

/** A job under way is one object, which goes on into the journal: whatever leaves the component has to be a copy. */
describe("what the bridge's own code changes in what it was given", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    it("changes neither the next try nor what the room is shown", async () => {
        const opened: unknown[] = [];
        const edited = deferred();
        let isThere = false;
        const media = world.component({
            connectors: {
                net: {
                    open: async (ref) => {
                        opened.push(structuredClone(ref));
                        Object.assign(ref as object, { id: "dog" });
                        await edited.promise;
                        if (!isThere) throw new MediaError("SOURCE_NOT_FOUND");
                        return { stream: Readable.from([someBytes(500)]) };
                    },
                },
            },
            onFailure: async ({ content }) => {
                Object.assign(content["info"] as object, { mimetype: "image/png" });
                return { msgtype: "m.notice", body: "not there" };
            },
        });
        await media.start();
        media.on("job", ({ at }) => void (at as string[] | undefined)?.splice(0));
        const source = { kind: "connector", connector: "net", ref: { id: "cat" } } as const;
        const content = { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg" } };
        const message = photoMessage(roomId, alice, source);
        const { id, eventId, uploads } = await media.send(message);
        await media.edit(id, { id: `${id}/edit`, content });
        edited.resolve();
        const shown = () => edits(world.homeserver, roomId).get(eventId);
        await until(() => shown()?.["body"] === "not there");
        for (let look = 0; look < 2; look++) {
            const [upload] = (await media.send(message)).uploads;
            const error: unknown = await upload?.done.catch((thrown: unknown) => thrown);
            expect(error).to.include({ code: "SOURCE_NOT_FOUND" });
            Object.assign(error as MediaError, { code: "CANCELLED", message: "" });
        }
        isThere = true;
        await media.retry(uploads[0]?.jobId ?? "");
        await until(() => shown()?.["msgtype"] === "m.image");
        expect(shown()).to.deep.equal({ ...content, url: uploads[0]?.contentUri });
        expect(opened).to.deep.equal([{ id: "cat" }, { id: "cat" }]);
    });

    it("does not change the notice that stands in for the answer of a failure's question", async () => {
        const media = world.component({
            onFailure: async ({ content }) => {
                Object.assign(content, { body: "Don't look!" });
                throw new Error("no answer");
            },
        });
        await media.start();
        const content = { msgtype: "m.image", body: "Look!", filename: "cat.jpg", info: { mimetype: "image/jpeg" } };
        const gone = { kind: "http", url: `${remote.url}/gone` } as const;
        const { eventId } = await media.send(photoMessage(roomId, alice, gone, { content }));
        const shown = await until(() => edits(world.homeserver, roomId).get(eventId));
        expect(shown["body"]).to.match(/\n\nLook!$/);
    });

    it("does not change an event that is encrypted once more", async () => {
        const crypto = standInCrypto(roomId);
        let calls = 0;
        const changing: CryptoLike = {
            ...crypto,
            encryptRoomEvent: async (room, type, content) => {
                const sealed = await crypto.encryptRoomEvent(room, type, content);
                Object.assign(content as object, { body: "changed" });
                if (calls++ === 0) throw new Error("not now");
                return sealed;
            },
        };
        const dataDir = world.dataDir;
        const media = new BridgeMedia(
            withCrypto(world.bridge, () => changing),
            { dataDir },
        );
        await media.start();
        await media.send(textMessage(roomId, alice, "as it was"));
        await media.close();
        expect(calls).to.equal(2);
        expect(readable(world.homeserver, roomId).map(({ content }) => content["body"])).to.deep.equal(["as it was"]);
    });
});
