import type { ServerResponse } from "node:http";
import { expect } from "chai";
import type { BridgeMedia, MediaError } from "../../src/index.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { download, edits, messages } from "../support/download.ts";
import { reviseMark } from "../../src/bridge/records.ts";
import type { Job } from "../../src/uploads/job.ts";
import { transition } from "../../src/uploads/transition.ts";
import { JOBS, jobFrom, jobWrites } from "../../src/uploads/job-records.ts";
import { LevelStore } from "../../src/store/level.ts";
import { join } from "node:path";

/** A job with a new address in place of the one that leads, as it is made when an address expires. */
async function replaceLeader(dataDir: string, leader: string, contentUri: string): Promise<void> {
    const store = new LevelStore(join(dataDir, "journal"));
    await store.open(() => {});
    const old = jobFrom((await store.get(JOBS, leader)) ?? {});
    const expiresAt = (old.expiresAt ?? Date.now()) + 1000;
    const next: Job = { ...old, id: "replacement", contentUri, expiresAt, state: "ready" };
    const replaced = transition(old, { type: "replace", by: next.id, at: Date.now() });
    if (replaced === undefined) throw new Error(`it is ${old.state}`);
    const message = (await store.get("message", old.messageId ?? "")) ?? {};
    await store.commit([
        ...jobWrites(old, replaced),
        ...jobWrites(undefined, next),
        { collection: "message", key: old.messageId ?? "", record: { ...message, jobs: [next.id] } },
        reviseMark(old.messageId ?? ""),
    ]);
    await store.close();
}

describe("a file in common whose address had to be replaced", () => {
    it("is transferred once, to the new address, and every event shows that one", async () => {
        const { world, remote, alice, roomId } = await openScene();
        const bytes = someBytes(5000);
        const held = remote.on("/sticker", () => {});
        const first = world.component();
        await first.start();
        const ready: string[] = [];
        first.on("job", ({ id, state }) => void (state === "ready" && ready.push(id)));
        const sticker = () => photoMessage(roomId, alice, { kind: "http", url: held }, {}, { dedupeKey: "sticker" });
        const leading = await first.send(sticker());
        await until(() => remote.requests.length === 1);
        const others = [await first.send(sticker()), await first.send(sticker())];
        // Released with their events, and put aside when their turns came.
        await until(() => ready.length >= 5);
        const spare = await first.upload({ kind: "http", url: remote.on("/never", () => {}) }, { userId: alice });
        await first.close();
        await replaceLeader(world.dataDir, leading.uploads[0]?.jobId ?? "", spare.contentUri);

        remote.on("/sticker", (_request, response) => {
            response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        const second = world.component();
        await second.start();
        for (const { eventId } of [leading, ...others]) {
            await until(() => edits(world.homeserver, roomId).get(eventId)?.["url"] === spare.contentUri);
        }
        expect((await download(world.homeserver, spare.contentUri)).body.equals(bytes)).to.equal(true);
        expect(messages(world.homeserver, roomId)).to.have.length(6);
        expect(remote.requests.filter(({ url }) => url === "/sticker")).to.have.length(2);
        await closeScene({ world, remote });
    });

    it("ahead of its turn, stays at the new one: its event is edited once", async () => {
        const { world, remote, alice, roomId } = await openScene({ unusedExpirationMs: 1500 });
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 });
        await media.start();
        const stalled = await media.upload({ kind: "http", url: remote.on("/stalled", () => {}) }, { userId: alice });
        await until(() => remote.requests.length === 1);
        const bytes = someBytes(2000);
        const source = { kind: "buffer", data: bytes } as const;
        const { eventId, uploads } = await media.send(photoMessage(roomId, alice, source, {}, { dedupeKey: "photo" }));
        const edited = await until(() => edits(world.homeserver, roomId).get(eventId));
        const replaced = String(edited["url"]);
        await media.cancel(stalled.jobId);
        expect((await uploads[0]?.done)?.contentUri)
            .to.equal(replaced)
            .and.not.equal(uploads[0]?.contentUri);
        expect((await download(world.homeserver, replaced)).body.equals(bytes)).to.equal(true);
        const again = await media.upload(source, { userId: alice, dedupeKey: "photo" });
        expect(again.contentUri, "so it is for who shares it").to.equal(replaced);
        await closeScene({ world, remote });
    });

    describe("while the one before still lives", () => {
        for (const [how, isLeading] of [
            ["that follows it", true],
            ["that waits for its turn too", false],
        ] as const)
            it(`is not an upload()'s ${how}, whose caller has that one: it goes there`, async () => {
                const { world, remote, alice, roomId } = await openScene();
                const bytes = someBytes(5000);
                const never = remote.on("/never", () => {});
                const source = { kind: "http", url: remote.on("/sticker", () => {}) } as const;
                const first = world.component({ concurrency: isLeading ? 2 : 1, smallFileConcurrency: 0 });
                await first.start();
                const ready: string[] = [];
                first.on("job", ({ id, state }) => void (state === "ready" && ready.push(id)));
                if (!isLeading) await first.upload({ kind: "http", url: never }, { userId: alice });
                if (!isLeading) await until(() => remote.requests.length === 1);
                const sent = await first.send(photoMessage(roomId, alice, source, {}, { dedupeKey: "sticker" }));
                if (isLeading) await until(() => remote.requests.length === 1);
                const shared = await first.upload(source, { userId: alice, dedupeKey: "sticker" });
                expect(shared.contentUri).to.equal(sent.uploads[0]?.contentUri);
                if (isLeading) await until(() => ready.filter((id) => id === shared.jobId).length === 2);
                const spare = await first.upload({ kind: "http", url: never }, { userId: alice });
                await first.cancel(spare.jobId);
                await first.close();
                await replaceLeader(world.dataDir, sent.uploads[0]?.jobId ?? "", spare.contentUri);

                remote.on("/sticker", (_request, response) => {
                    response.writeHead(200, { "content-length": bytes.length }).end(bytes);
                });
                const second = world.component({ concurrency: 4 });
                await second.start();
                await until(() => edits(world.homeserver, roomId).get(sent.eventId)?.["url"] === spare.contentUri);
                const endOf = (id: string) =>
                    until(async () => {
                        for await (const job of second.jobs())
                            if (job.id === id && (job.state === "done" || job.state === "failed")) return job;
                        return undefined;
                    });
                expect(await endOf(shared.jobId)).to.include({ state: "done", contentUri: shared.contentUri });
                // Where that one came first, the file is there for its message too, and shown so.
                const { contentUri } = await endOf("replacement");
                await until(() => edits(world.homeserver, roomId).get(sent.eventId)?.["url"] === contentUri);
                for (const uri of [shared.contentUri, String(contentUri)])
                    expect((await download(world.homeserver, uri)).body.equals(bytes), uri).to.equal(true);
                const edited = contentUri === spare.contentUri ? 1 : 2;
                expect(messages(world.homeserver, roomId), "the event and its edits").to.have.length(1 + edited);
                const again = await second.upload(source, { userId: alice, dedupeKey: "sticker" });
                expect(again.contentUri, "and so does the file").to.equal(contentUri);
                await closeScene({ world, remote });
            });
    });

    describe("because the homeserver has lost it while one transfers the file", () => {
        const bytes = someBytes(1000);
        const dedupeKey = "sticker";
        let { world, remote, alice, roomId } = {} as Scene;
        let media: BridgeMedia;
        let source: { kind: "http"; url: string };
        let give = (): void => {};
        let ready: Map<string, number>;
        beforeEach(async () => {
            ({ world, remote, alice, roomId } = await openScene());
            media = world.component({ reserveAhead: 0 });
            await media.start();
            ready = new Map();
            media.on("job", ({ id, state }) => {
                if (state === "ready") ready.set(id, (ready.get(id) ?? 0) + 1);
            });
            let isHeld = true;
            const held: ServerResponse[] = [];
            const answer = (response: ServerResponse): void => {
                response.writeHead(200, { "content-type": "image/png", "content-length": bytes.length }).end(bytes);
            };
            const url = remote.on("/sticker", (_request, response) => {
                if (isHeld) held.push(response);
                else answer(response);
            });
            source = { kind: "http", url };
            give = () => {
                isHeld = false;
                for (const response of held) answer(response);
            };
        });
        afterEach(() => closeScene({ world, remote }));

        const send = async (room: string) => media.send(photoMessage(room, alice, source, {}, { dedupeKey }));
        const upload = () => media.upload(source, { userId: alice, dedupeKey });
        const isAsked = () => until(() => remote.requests.length === 1);
        /** Ready with its event, or when it was called for, and again without a turn of its own. */
        const follow = (...uploads: ({ readonly jobId: string } | undefined)[]) =>
            until(() => uploads.every((one) => ready.get(one?.jobId ?? "") === 2), { what: "those that follow" });
        const lose = (contentUri: string): void => {
            const lost = contentUri.replace("mxc://", "/_matrix/media/v3/upload/");
            world.homeserver.intercept(({ path }) =>
                path === lost ? { status: 404, body: { errcode: "M_NOT_FOUND", error: "gone" } } : undefined,
            );
        };
        const codeOf = ({ code }: MediaError): string => code;

        it("by an upload without a message, a message's file goes on at another", async () => {
            const leading = await upload();
            await isAsked();
            const alike = await upload();
            const { eventId, uploads } = await send(roomId);
            expect(uploads[0]?.contentUri).to.equal(leading.contentUri);
            await follow(alike, uploads[0]);
            lose(leading.contentUri);
            give();
            expect(await leading.done.catch(codeOf)).to.equal("RESERVATION_GONE");
            const { contentUri = "" } = (await uploads[0]?.done) ?? {};
            await until(() => edits(world.homeserver, roomId).get(eventId)?.["url"] === contentUri);
            expect((await download(world.homeserver, contentUri, 0)).body.equals(bytes)).to.equal(true);
            expect(await alike.done.catch(codeOf)).to.equal("RESERVATION_GONE");
        });

        it("by a message, an upload that shared it says that its address is gone, and a picture is set with the new one", async () => {
            const sent = await send(roomId);
            await isAsked();
            const shared = await upload();
            const picture = media.avatar(alice, source, { dedupeKey });
            await until(() => [...ready.values()].filter((times) => times === 2).length === 2);
            expect(shared.contentUri).to.equal(sent.uploads[0]?.contentUri);
            lose(shared.contentUri);
            give();
            const { contentUri } = (await sent.uploads[0]?.done) ?? {};
            expect(contentUri).not.to.equal(shared.contentUri);
            expect(await shared.done.catch(codeOf)).to.equal("RESERVATION_GONE");
            expect(await picture).to.equal(contentUri);
        });

        it("by an upload that nobody's message shares, all that share it say that it is gone", async () => {
            const all = [await upload()];
            await isAsked();
            all.push(await upload(), await upload());
            await follow(...all.slice(1));
            lose(all[0]?.contentUri ?? "");
            give();
            const codes = await Promise.all(all.map(({ done }) => done.catch(codeOf)));
            expect(codes).to.deep.equal(Array.from({ length: 3 }, () => "RESERVATION_GONE"));
            expect(remote.requests).to.have.length(1);
        });
    });
});
