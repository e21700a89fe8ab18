import { join } from "node:path";
import { expect } from "chai";
import type { MediaError } from "../../src/index.ts";
import { jobFrom, JOBS, jobWrites } from "../../src/uploads/job-records.ts";
import { LevelStore } from "../../src/store/level.ts";
import { bodies, download, edits, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const HOUR = 60 * 60_000;
const BYTES = someBytes(3000);

describe("a message that waits for an address", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    /** The next requests for an address are refused, each with a wait. */
    function limited(times: number, retryAfterMs: number): () => number {
        let left = times;
        world.homeserver.intercept(({ path }) =>
            path.includes("/media/v1/create") && left-- > 0
                ? { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", error: "wait", retry_after_ms: retryAfterMs } }
                : undefined,
        );
        return () => left;
    }

    it("while its file gets one by way of another message, goes on when its job is cancelled", async () => {
        const left = limited(1, 30_000);
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        const url = remote.on("/never", () => {});
        const sticker = (room: string) =>
            photoMessage(room, alice, { kind: "http", url }, {}, { dedupeKey: "sticker" });
        const waiting = media.send(sticker(roomId));
        await until(() => left() <= 0);
        await media.send(sticker(await world.room(alice)));
        for await (const { id, roomId: of } of media.jobs()) if (of === roomId) await media.cancel(id);
        expect((await waiting).uploads).to.have.length(1);
    });

    it("leaves it to the next one when its job is cancelled meanwhile", async () => {
        let asked = 0;
        world.homeserver.intercept(({ path }) => {
            if (!path.includes("/media/v1/create")) return undefined;
            asked++;
            return { delayMs: 200 };
        });
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        const bytes = someBytes(2000);
        const photo = () => photoMessage(roomId, alice, { kind: "http", url: remote.file(bytes) });
        const sending = media.send(photo());
        await until(() => asked === 1);
        for await (const { id } of media.jobs()) await media.cancel(id);
        const [cancelled] = (await sending).uploads;
        expect(await cancelled?.done.catch(({ code }: MediaError) => code)).to.equal("CANCELLED");
        const next = await media.send(photo());
        expect((await next.uploads[0]?.done)?.state).to.equal("done");
        expect(asked, "addresses").to.equal(1);
    });

    it("and is being given one when close() comes has that at the next start", async () => {
        let asked = 0;
        world.homeserver.intercept(({ path }) =>
            path.includes("/media/v1/create") ? (asked++, { delayMs: 200 }) : undefined,
        );
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        const source = { kind: "http", url: remote.file(someBytes(2000)) } as const;
        const sending = media.send(photoMessage(roomId, alice, source)).catch(({ code }: MediaError) => code);
        await until(() => asked === 1);
        await media.close();
        expect(await sending).to.equal("CLOSED");
        expect(messages(world.homeserver, roomId)).to.have.length(0);
        const next = world.component({ reserveAhead: 0 });
        await next.start();
        await until(async () => {
            for await (const { state } of next.jobs()) return state === "done";
            return false;
        });
        expect(asked).to.equal(1);
        expect(world.homeserver.pendingMedia(alice)).to.equal(0);
    });

    for (const [status, errcode] of [
        [403, "M_FORBIDDEN"],
        [403, "M_USER_LIMIT_EXCEEDED"],
        [413, "M_TOO_LARGE"],
        [400, "M_UNKNOWN"],
    ] as const) {
        it(`and is refused one for good (${status} ${errcode}) comes with its file, or says with its caption why not`, async () => {
            let isUploadRefused = false;
            world.homeserver.intercept(({ path }) =>
                path.includes("/media/v1/create") || (isUploadRefused && path.endsWith("/media/v3/upload"))
                    ? { status, body: { errcode, error: "no" } }
                    : undefined,
            );
            const media = world.component();
            await media.start();
            const bytes = someBytes(2000);
            const content = { msgtype: "m.image", filename: "cat.jpg", body: "my caption" };
            const photo = () => photoMessage(roomId, alice, { kind: "http", url: remote.file(bytes) }, { content });
            const [upload] = (await media.send(photo())).uploads;
            expect((await download(world.homeserver, upload?.contentUri ?? "", 0)).body.equals(bytes)).to.equal(true);
            isUploadRefused = true;
            await media.send(photo());
            const shown = bodies(world.homeserver, roomId);
            expect(shown).to.have.length(2);
            expect(shown[0]).to.equal("my caption");
            expect(shown[1]).to.contain("cat.jpg could not be bridged").and.to.contain("my caption");
        });
    }

    /** A photo stands in its room's line, behind a text, for longer than its address lasts. */
    async function standInLine(): Promise<void> {
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        let isDown = true;
        world.homeserver.intercept(({ path }) =>
            isDown && path.includes("/send/") ? { status: 503, body: {} } : undefined,
        );
        const own = photoMessage(roomId, alice, { kind: "http", url: remote.file(BYTES) });
        const sending = [media.send(textMessage(roomId, alice, "first")), media.send(own)];
        for (const one of sending) one.catch(() => {});
        await until(() => world.homeserver.requests.some(({ path }) => path.includes("/send/")));
        await media.close();
        // It stood in the line for a day.
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        for await (const [, record] of store.range({ collection: JOBS })) {
            const address = { contentUri: "mxc://example.org/old", expiresAt: Date.now() - HOUR };
            await store.commit(jobWrites(undefined, { ...jobFrom(record), state: "reserved", ...address }));
        }
        await store.close();
        isDown = false;
    }

    it("in place of one that ran out, and is released with that meanwhile: no two messages have one address", async () => {
        await standInLine();
        limited(1, 300);
        const again = world.component({ reserveAhead: 2 });
        await again.start();
        await until(() => messages(world.homeserver, roomId).length === 2);
        const files = [4000, 5000, 6000].map((length) => someBytes(length));
        const uris: string[] = [];
        for (const bytes of files) {
            const sent = await again.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(bytes) }));
            await sent.uploads[0]?.done;
            uris.push(sent.uploads[0]?.contentUri ?? "");
        }
        for (const [index, uri] of uris.entries()) {
            const { body } = await download(world.homeserver, uri);
            expect(sha256(body)).to.equal(sha256(files[index] ?? Buffer.of()));
        }
    });

    for (const [what, status, body, times] of [
        // Asked for a second time as soon as its sender is known to be registered.
        ["is refused one for good", 403, { errcode: "M_FORBIDDEN", error: "no" }, 2],
        ["may ask again at once", 429, { errcode: "M_LIMIT_EXCEEDED", error: "wait", retry_after_ms: 0 }, 1],
    ] as const)
        it(`in place of one that ran out, and ${what}, has its file by the next one, transferred once`, async () => {
            await standInLine();
            let left: number = times;
            world.homeserver.intercept(({ path }) =>
                path.includes("/media/v1/create") && left-- > 0 ? { status, body } : undefined,
            );
            const media = world.component({ reserveAhead: 0 });
            await media.start();
            const { contentUri = "" } = await until(async () => {
                for await (const job of media.jobs({ state: "done" })) return job;
                return undefined;
            });
            expect((await download(world.homeserver, contentUri, 0)).body.equals(BYTES)).to.equal(true);
            await until(() => {
                const [, photo] = messages(world.homeserver, roomId);
                const shown = edits(world.homeserver, roomId).get(photo?.event_id ?? "") ?? photo?.content;
                return shown?.["url"] === contentUri;
            });
            expect(remote.requests).to.have.length(1);
        });
});
