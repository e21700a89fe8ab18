import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { expect } from "chai";
import { Registry } from "prom-client";
import type { BridgeMedia, JobInfo, MediaError, MediaSource } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { download, edits } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { sweeperOf } from "../support/sweeper.ts";
import { until } from "../support/until.ts";

const PNG = Buffer.concat([Buffer.from("89504E470D0A1A0A0000000D49484452", "hex"), someBytes(5000)]);
const gone = { status: 404, body: { errcode: "M_NOT_FOUND", error: "Media ID has expired" } };
const isUpload = ({ method, path }: { method: string; path: string }): boolean =>
    method === "PUT" && path.includes("/upload/");
const codeOf = ({ code }: MediaError): string => code;

describe("the address of a picture, which nobody has seen", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    afterEach(() => closeScene({ world, remote }));

    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
    }

    /** A component that takes one file after the other, and keeps no addresses ahead. */
    async function started(): Promise<BridgeMedia> {
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
        await media.start();
        return media;
    }

    /** A file whose server answers only when it is let, and then at once. */
    function gated(path: string) {
        const held: ServerResponse[] = [];
        let isHeld = true;
        const answer = (response: ServerResponse): void => void response.end(PNG);
        const url = remote.on(path, (_request, response) => {
            if (isHeld) held.push(response);
            else answer(response);
        });
        const give = (): void => {
            isHeld = false;
            for (const response of held) if (!response.destroyed) answer(response);
        };
        return { source: { kind: "http", url } as const, give };
    }

    const asked = (count: number) => until(() => remote.requests.length === count, { what: `${count} requests` });
    const expired = (user: string): Promise<true> =>
        until(() => world.homeserver.pendingMedia(user) === 0 || undefined, { what: "every address has ended" });
    const refusedUploads = (): number =>
        world.homeserver.requests.filter((request) => isUpload(request) && request.status === 404).length;
    const expectThere = async (uri: string): Promise<void> => {
        const { status, body } = await download(world.homeserver, uri, 0);
        expect(status).to.equal(200);
        expect(body.equals(PNG)).to.equal(true);
    };

    const PICTURES = [
        {
            of: "a user",
            uploader: () => alice,
            set: (media: BridgeMedia, source: MediaSource) => media.avatar(alice, source, { dedupeKey: "face" }),
            shown: () => shownAt(`/profile/${encodeURIComponent(alice)}/avatar_url`, "avatar_url"),
        },
        {
            of: "a room",
            uploader: () => world.bot,
            set: (media: BridgeMedia, source: MediaSource) => media.roomAvatar(roomId, source, { dedupeKey: "face" }),
            shown: () => shownAt(`/rooms/${encodeURIComponent(roomId)}/state/m.room.avatar`, "url"),
        },
    ];

    function shownAt(path: string, key: string): Promise<string | undefined> {
        return world.request(world.bot, "GET", path).then(
            (answer) => answer[key] as string | undefined,
            () => undefined,
        );
    }

    for (const { of, uploader, set, shown } of PICTURES) {
        it(`of ${of}: is another one at its turn after a downtime`, async () => {
            await open({ unusedExpirationMs: 400 });
            const { source, give } = gated("/face");
            const first = await started();
            const setting = set(first, source).catch(codeOf);
            await asked(1);
            await first.close();
            expect(await setting).to.equal("CLOSED");
            await expired(uploader());
            give();

            const second = await started();
            const registry = new Registry();
            second.registerMetrics(registry);
            await expectThere(await until(shown));
            expect(refusedUploads(), "uploads to the old address").to.equal(0);
            expect((await jobsOf(second)).map(({ state }) => state).toSorted()).to.deep.equal(["done", "replaced"]);
            expect(await registry.metrics()).to.match(/bridge_media_pending_jobs 0/);
            await second.close();

            const store = new LevelStore(join(world.dataDir, "journal"));
            await store.open(() => {});
            await sweeperOf(store, world.dataDir).sweep(Date.now() + 1000);
            for (const collection of ["avatar", "job", "schedule", "waiting", "expiring", "finished", "revise"])
                for await (const key of store.keys({ collection })) expect.fail(`${collection} ${key} was left`);
            await store.close();
        });

        it(`of ${of}: is another one where its source is slower`, async () => {
            await open({ unusedExpirationMs: 400 });
            const { source, give } = gated("/face");
            const media = await started();
            const setting = set(media, source);
            await asked(1);
            await expired(uploader());
            give();
            const uri = await setting;
            expect(refusedUploads()).to.equal(1);
            expect(await shown()).to.equal(uri);
            await expectThere(uri);
        });
    }

    it("is another one ahead of its end where the file still waits", async () => {
        await open({ unusedExpirationMs: 1500 });
        const media = await started();
        const stalled = await media.upload(gated("/stalled").source, { userId: alice });
        await asked(1);
        const replaced: JobInfo[] = [];
        media.on("job", (job) => void (job.state === "replaced" && replaced.push(job)));
        const setting = media.avatar(alice, { kind: "buffer", data: PNG });
        const old = await until(() => replaced[0], { what: "a job that is replaced" });
        expect((await download(world.homeserver, old.contentUri ?? "", 0)).status, "it still lives").to.equal(504);
        await media.cancel(stalled.jobId);
        const uri = await setting;
        expect(uri).not.to.equal(old.contentUri);
        await expectThere(uri);
        expect(refusedUploads()).to.equal(0);
    });

    it("is another one when the homeserver has lost it, and not for ever", async () => {
        await open();
        let refusals = 3;
        world.homeserver.intercept((request) => (isUpload(request) && refusals-- > 0 ? gone : undefined));
        const media = await started();
        await expectThere(await media.avatar(alice, { kind: "buffer", data: PNG }));
        refusals = Number.POSITIVE_INFINITY;
        const uploads = (): number => world.homeserver.requests.filter(isUpload).length;
        const before = uploads();
        const lost = media.avatar(alice, { kind: "buffer", data: someBytes(10) }).catch(codeOf);
        expect(await lost).to.equal("RESERVATION_GONE");
        expect(uploads() - before).to.equal(4);
    });

    it("cancel() by the first job's id ends the one that has its place", async () => {
        await open();
        let refusals = 1;
        world.homeserver.intercept((request) => (isUpload(request) && refusals-- > 0 ? gone : undefined));
        let times = 0;
        const url = remote.on("/slow", (_request, response) => {
            if (times++ === 0) response.end(PNG);
        });
        const media = await started();
        const ids: string[] = [];
        media.on("job", ({ id }) => void ids.push(id));
        const setting = media.avatar(alice, { kind: "http", url }).catch(codeOf);
        await asked(2);
        await media.cancel(ids[0] ?? "");
        expect(await setting).to.equal("CANCELLED");
    });

    describe("that shares its file", () => {
        const dedupeKey = "face";

        const follows = (media: BridgeMedia) => {
            const ready = new Map<string, number>();
            media.on("job", ({ id, state }) => void (state === "ready" && ready.set(id, (ready.get(id) ?? 0) + 1)));
            /** Ready with its event, or when it was called for, and again without a turn of its own. */
            return (count: number) =>
                until(() => [...ready.values()].filter((times) => times === 2).length === count, {
                    what: "those that follow",
                });
        };

        it("takes a message along to the new one, and tells an upload() that its own is gone", async () => {
            await open({ unusedExpirationMs: 1000 });
            const { source, give } = gated("/face");
            const media = world.component({ reserveAhead: 0 });
            await media.start();
            const followers = follows(media);
            const setting = media.avatar(alice, source, { dedupeKey });
            await asked(1);
            const { eventId, uploads } = await media.send(photoMessage(roomId, alice, source, {}, { dedupeKey }));
            const shared = await media.upload(source, { userId: alice, dedupeKey });
            const again = media.avatar(alice, source, { dedupeKey });
            expect(shared.contentUri).to.equal(uploads[0]?.contentUri);
            await followers(2);
            await expired(alice);
            give();
            const uri = await setting;
            expect(uri).not.to.equal(shared.contentUri);
            expect(await shared.done.catch(codeOf)).to.equal("RESERVATION_GONE");
            expect((await uploads[0]?.done)?.contentUri).to.equal(uri);
            expect(await again).to.equal(uri);
            await until(() => edits(world.homeserver, roomId).get(eventId)?.["url"] === uri);
            await expectThere(uri);
        });

        it("takes a message along to the new one after a downtime", async () => {
            await open({ unusedExpirationMs: 1000 });
            const { source, give } = gated("/face");
            const first = world.component({ reserveAhead: 0 });
            await first.start();
            const followers = follows(first);
            const setting = first.avatar(alice, source, { dedupeKey }).catch(codeOf);
            await asked(1);
            const { eventId } = await first.send(photoMessage(roomId, alice, source, {}, { dedupeKey }));
            await followers(1);
            await first.close();
            expect(await setting).to.equal("CLOSED");
            await expired(alice);
            give();
            const second = await started();
            const uri = await until(PICTURES[0]?.shown ?? (() => undefined));
            await until(() => edits(world.homeserver, roomId).get(eventId)?.["url"] === uri);
            await expectThere(uri);
            const states = (await jobsOf(second)).map(({ state }) => state).toSorted();
            expect(states).to.deep.equal(["done", "done", "replaced"]);
            expect(remote.requests).to.have.length(2);
        });

        it("ends with all that share it when the homeserver has lost one after the other", async () => {
            await open();
            world.homeserver.intercept((request) => (isUpload(request) ? gone : undefined));
            const { source, give } = gated("/face");
            const media = world.component({ reserveAhead: 0 });
            await media.start();
            const followers = follows(media);
            const setting = media.avatar(alice, source, { dedupeKey }).catch(codeOf);
            await asked(1);
            const { uploads } = await media.send(photoMessage(roomId, alice, source, {}, { dedupeKey }));
            await followers(1);
            give();
            expect(await setting).to.equal("RESERVATION_GONE");
            expect(await uploads[0]?.done.catch(codeOf)).to.equal("RESERVATION_GONE");
            expect(world.homeserver.requests.filter(isUpload)).to.have.length(4);
        });

        it("goes to another one where it follows an upload() whose address is lost", async () => {
            await open();
            const { source, give } = gated("/face");
            const media = world.component({ reserveAhead: 0 });
            await media.start();
            const followers = follows(media);
            const leading = await media.upload(source, { userId: alice, dedupeKey });
            await asked(1);
            const setting = media.avatar(alice, source, { dedupeKey });
            await followers(1);
            const lost = leading.contentUri.replace("mxc://", "/_matrix/media/v3/upload/");
            world.homeserver.intercept(({ path }) => (path === lost ? gone : undefined));
            give();
            expect(await leading.done.catch(codeOf)).to.equal("RESERVATION_GONE");
            const uri = await setting;
            expect(uri).not.to.equal(leading.contentUri);
            await expectThere(uri);
        });
    });
});

async function jobsOf(media: BridgeMedia): Promise<JobInfo[]> {
    const found: JobInfo[] = [];
    for await (const job of media.jobs()) found.push(job);
    return found;
}
