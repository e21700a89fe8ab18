import { expect } from "chai";
import { Reservations } from "../../src/bridge/reservations.ts";
import type { MediaError } from "../../src/index.ts";
import { silentLogger } from "../../src/logger.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { Unrepeated } from "../../src/matrix/unrepeated.ts";
import { download, edits } from "../support/download.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { photoMessage } from "../support/messages.ts";
import { gets, openPresignedScene, type PresignedScene } from "../support/presigned-scene.ts";
import { someBytes } from "../support/remote.ts";
import { startS3rver } from "../support/s3rver.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

type Asked = { readonly method: string; readonly path: string };

const isCreate = ({ path }: Asked): boolean => path.endsWith("/media/v1/create");
const isPut = ({ method, path }: Asked): boolean => method === "PUT" && path.includes("/upload/");
const isOneStep = ({ method, path }: Asked): boolean => method === "POST" && path.endsWith("/media/v3/upload");
const isDownload = ({ path }: Asked): boolean => path.includes("/download/");
const isComplete = ({ path }: Asked): boolean => path.endsWith("/complete");
/** Whether the homeserver is there at all. */
const isQuestion = ({ path }: Asked): boolean => path.endsWith("/config") || path.endsWith("/client/versions");

/** What a proxy says while the homeserver behind it restarts. */
const PLAIN = [
    { status: 404, body: "404 page not found", headers: { "content-type": "text/plain" } },
    { status: 404, body: { detail: "Not Found" } },
    { status: 405, body: "<html>405 Not Allowed</html>", headers: { "content-type": "text/html" } },
];

describe("a 404 that says no Matrix code", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
    }
    afterEach(() => closeScene({ world, remote }));

    /** Plain answers to the first so many requests that `matches` knows; returns how many have come. */
    function away(times: number, matches: (request: Asked) => boolean): () => number {
        let seen = 0;
        world.homeserver.intercept((request) => {
            if (!matches(request)) return undefined;
            return seen++ < times ? PLAIN[seen % PLAIN.length] : undefined;
        });
        return () => seen;
    }
    const asked = (matches: (request: Asked) => boolean): number => world.homeserver.requests.filter(matches).length;

    async function sendPhoto(bytes = someBytes(3000)) {
        const media = world.component();
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(bytes) }));
        return { media, bytes, sent, upload: sent.uploads[0] };
    }
    async function arrived({ sent, upload, bytes }: Awaited<ReturnType<typeof sendPhoto>>): Promise<void> {
        const { state, contentUri } = (await upload?.done) ?? {};
        expect({ state, contentUri }).to.deep.equal({ state: "done", contentUri: upload?.contentUri });
        expect((await download(world.homeserver, contentUri ?? "")).body.equals(bytes)).to.equal(true);
        expect(edits(world.homeserver, roomId).has(sent.eventId), "edited").to.equal(false);
    }

    it("to an upload is a proxy's: the address is kept and tried again", async () => {
        await open();
        away(3, isPut);
        await arrived(await sendPhoto());
        const addresses = world.homeserver.requests.filter(isPut).map(({ path }) => path);
        expect(addresses).to.have.length(4);
        expect(new Set(addresses).size).to.equal(1);
    });

    it("to /create, when a file's address has ended, is waited out: the file comes by another one", async () => {
        await open();
        let first: string | undefined;
        world.homeserver.intercept((request) => {
            if (!isPut(request)) return undefined;
            first ??= request.path;
            const body = { errcode: "M_NOT_FOUND", error: "Media ID has expired" };
            return request.path === first ? { status: 404, body } : undefined;
        });
        away(3, (request) => isCreate(request) && first !== undefined);
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        const bytes = someBytes(3000);
        const photo = photoMessage(roomId, alice, { kind: "http", url: remote.file(bytes) });
        const { eventId, uploads } = await media.send(photo);
        expect((await uploads[0]?.done)?.state).to.equal("done");
        const shown = await until(() => edits(world.homeserver, roomId).get(eventId));
        expect((await download(world.homeserver, String(shown["url"]))).body.equals(bytes)).to.equal(true);
        // One that came in time says that there is such an endpoint.
        const again = await media.send({ ...photo, id: "another" });
        expect(again.uploads[0]?.contentUri).to.be.a("string");
        expect(asked(isOneStep)).to.equal(0);
    });

    it("to an upload costs it no try, nor does a proxy's 408; what else has no Matrix code costs one", async () => {
        await open();
        const upload = async (status: number, maxAttempts: number) => {
            const media = world.component({ maxAttempts });
            await media.start();
            let seen = 0;
            const stop = world.homeserver.intercept((request) =>
                isPut(request) && seen++ === 0 ? { status, body: "<html>no</html>" } : undefined,
            );
            const url = remote.file(someBytes(3000));
            const { uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            const end = await uploads[0]?.done.then(
                ({ state }) => state,
                ({ code }: MediaError) => code,
            );
            stop();
            await media.close();
            return [status, end, seen];
        };
        for (const status of [404, 408, 421, 425]) expect(await upload(status, 1)).to.deep.equal([status, "done", 2]);
        for (const status of [400, 403, 407, 418]) expect(await upload(status, 2)).to.deep.equal([status, "done", 2]);
        expect(await upload(400, 1), "the last try").to.deep.equal([400, "UPLOAD_REFUSED", 1]);
        expect(await upload(413, 2), "a size").to.deep.equal([413, "FILE_TOO_LARGE", 1]);
    });

    it("to all requests for a while costs no file and leaves /create in use", async () => {
        await open();
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        let isAway = false;
        let seen = 0;
        world.homeserver.intercept(() => (isAway ? PLAIN[seen++ % PLAIN.length] : undefined));
        isAway = true;
        const bytes = someBytes(2000);
        const sending = media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(bytes) }));
        await until(() => seen > 4);
        isAway = false;
        const sent = await sending;
        await arrived({ media, bytes, sent, upload: sent.uploads[0] });
        expect(asked(isOneStep), "uploaded before their events").to.equal(0);
    });

    it("to the upload in one step, where there is no /create, is tried again", async () => {
        await open({ features: { create: false } });
        const seen = away(2, isOneStep);
        await arrived(await sendPhoto());
        expect(seen()).to.equal(3);
    });

    it("to all but uploads and downloads is a proxy that passes those only: files go before their events", async () => {
        await open();
        away(Number.POSITIVE_INFINITY, (request) => request.path.includes("/media/") && !isOneStep(request));
        const { upload, sent } = await sendPhoto();
        expect((await upload?.done)?.state).to.equal("done");
        expect(edits(world.homeserver, roomId).has(sent.eventId), "edited").to.equal(false);
    });

    it("to the question whether an earlier try got through says nothing of the address", async () => {
        await open();
        let isFirst = true;
        world.homeserver.intercept((request) => {
            if (!isPut(request) || !isFirst) return undefined;
            isFirst = false;
            return { drop: "after" };
        });
        const seen = away(1, isDownload);
        await arrived(await sendPhoto());
        expect(seen()).to.be.at.least(2);
    });

    it("to /create alone is a server without it, which is asked again after a while", async () => {
        await open();
        const seen = away(Number.POSITIVE_INFINITY, isCreate);
        const { media, bytes, sent, upload } = await sendPhoto();
        await arrived({ media, bytes, sent, upload });
        expect(asked(isOneStep)).to.equal(1);
        const url = remote.file(bytes);
        await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        expect(seen(), "asked for one file only").to.equal(2);

        const users = new ActingUsers(world.bridge);
        const parts = { store: new MemoryStore(), users, logger: silentLogger, ahead: 0, uris: new Unrepeated() };
        const reservations = new Reservations(parts);
        const obtain = () =>
            reservations.obtain(alice, new AbortController().signal).catch(({ code }: MediaError) => code);
        const now = performance.now.bind(performance);
        try {
            expect(await obtain()).to.equal("NOT_SUPPORTED");
            performance.now = () => now() + 4 * 60_000;
            expect(await obtain()).to.equal("NOT_SUPPORTED");
            expect(seen()).to.equal(4);
            performance.now = () => now() + 6 * 60_000;
            expect(await obtain()).to.equal("NOT_SUPPORTED");
            expect(seen()).to.equal(6);
        } finally {
            performance.now = now;
            await reservations.close();
        }
    });
});

describe("a 404 that says no Matrix code, to /complete", () => {
    let scene: PresignedScene;
    afterEach(() => scene.close());

    it("is told again: no byte is read or sent again", async () => {
        scene = await openPresignedScene(startS3rver);
        let left = 4;
        scene.world.homeserver.intercept((request) => {
            if (isQuestion(request) && left > 0) return PLAIN[0];
            return isComplete(request) && left-- > 0 ? PLAIN[left % PLAIN.length] : undefined;
        });
        const media = scene.world.component();
        await media.start();
        const bytes = someBytes(5000);
        const photo = await scene.photo(media, bytes);
        await scene.expectContent(photo, bytes);
        expect(scene.outcomes().filter((outcome) => outcome.startsWith("upload"))).to.deep.equal([]);
        expect(scene.outcomes().at(-1)).to.equal("complete 200");
        expect(gets(scene, photo.url)).to.equal(1);
    });

    it("on one path leaves the other to be tried", async () => {
        scene = await openPresignedScene(startS3rver, () => ({ completePaths: ["unstable"] }));
        scene.world.homeserver.intercept((request) =>
            isComplete(request) && request.path.startsWith("/_matrix/media/v1/") ? PLAIN[0] : undefined,
        );
        const media = scene.world.component();
        await media.start();
        await scene.photo(media, someBytes(5000));
        expect(scene.outcomes()).to.deep.equal(["complete 404", "complete 200"]);
    });

    it("on both, of a homeserver that is there, has it get the file itself", async () => {
        scene = await openPresignedScene(startS3rver);
        scene.world.homeserver.intercept((request) => (isComplete(request) ? PLAIN[0] : undefined));
        const media = scene.world.component({ maxAttempts: 1 });
        await media.start();
        await scene.photo(media, someBytes(5000));
        expect(scene.outcomes()).to.deep.equal([...Array<string>(4).fill("complete 404"), "upload 200"]);
    });
});
