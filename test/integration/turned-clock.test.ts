import { join } from "node:path";
import { mock } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { Aftermath, type AftermathParts } from "../../src/bridge/damage/aftermath.ts";
import { Reservations } from "../../src/bridge/reservations.ts";
import { UserLimits } from "../../src/bridge/user-limits.ts";
import { BridgeMedia, MediaError } from "../../src/index.ts";
import { silentLogger } from "../../src/logger.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { Unrepeated } from "../../src/matrix/unrepeated.ts";
import { LevelStore } from "../../src/store/level.ts";
import { KeyedLocks } from "../../src/uploads/keyed-locks.ts";
import { StorageBreaker } from "../../src/uploads/targets/storage-breaker.ts";
import { standInCrypto, withCrypto } from "../support/crypto.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Long enough for the clock to be turned meanwhile. */
const TOLD_TO_WAIT = { status: 503, body: {}, headers: { "retry-after": "2" } };

describe("where the clock is turned while a bridge runs", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let open: BridgeMedia | undefined;
    /** What has gone by beside what really has; undefined where that is all. */
    let passedMs: number | undefined;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(async () => {
        mock.reset();
        mock.timers.reset();
        passedMs = undefined;
        await open?.close();
        open = undefined;
        await closeScene({ world, remote });
    });

    async function started(bridge = world.bridge): Promise<BridgeMedia> {
        const media = new BridgeMedia(bridge, { dataDir: world.dataDir, allowPrivateAddresses: true });
        open = media;
        await media.start();
        return media;
    }

    /** One mock for the whole test: of mocks upon a mock not all are taken off again. */
    function pass(ms: number): void {
        if (passedMs === undefined) {
            const now = performance.now.bind(performance);
            mock.method(performance, "now", () => now() + (passedMs ?? 0));
        }
        passedMs = (passedMs ?? 0) + ms;
    }

    /** The clock is turned by `clockMs`, and `ms` go by. */
    function turn(clockMs: number, ms = 0): void {
        pass(ms);
        const time = Date.now() + clockMs;
        mock.timers.reset();
        mock.timers.enable({ apis: ["Date"], now: time });
    }
    const asked = (part: string): number => world.homeserver.requests.filter(({ path }) => path.includes(part)).length;
    const photo = (id: string, dedupeKey?: string) =>
        photoMessage(
            roomId,
            alice,
            { kind: "http", url: remote.file(someBytes(1000)) },
            { id },
            dedupeKey === undefined ? {} : { dedupeKey },
        );

    async function count(media: BridgeMedia): Promise<number> {
        let jobs = 0;
        for await (const _ of media.jobs()) jobs++;
        return jobs;
    }

    it("back: a room that was not encrypted is asked again after five minutes all the same", async () => {
        const crypto = standInCrypto();
        const media = await started(withCrypto(world.bridge, () => crypto));
        await media.send(textMessage(roomId, alice, "one"));
        turn(-3 * DAY, 6 * MINUTE);
        await media.send(textMessage(roomId, alice, "two"));
        expect(asked("/state/m.room.encryption")).to.equal(2);
    });

    it("ahead, as where the machine slept: a room that was not encrypted before is asked again", async () => {
        const crypto = standInCrypto();
        const media = await started(withCrypto(world.bridge, () => crypto));
        await media.send(textMessage(roomId, alice, "one"));
        turn(3 * DAY);
        await media.send(textMessage(roomId, alice, "two"));
        expect(asked("/state/m.room.encryption")).to.equal(2);
    });

    it("back: what a user may upload is asked again after an hour all the same", async () => {
        const media = await started();
        await (await media.send(photo("one"))).uploads[0]?.done;
        turn(-3 * DAY, HOUR + MINUTE);
        await (await media.send(photo("two"))).uploads[0]?.done;
        expect(asked("/media/config")).to.equal(2);
    });

    for (const what of ["its source", "the homeserver"])
        it(`back: a file that waits for ${what} goes on when that wait is over all the same`, async () => {
            let isAway = true;
            const isOut = (other: string): boolean => isAway && what === other;
            world.homeserver.intercept(({ method, path }) =>
                isOut("the homeserver") && method === "PUT" && path.includes("/upload/") ? TOLD_TO_WAIT : undefined,
            );
            const url = remote.on("/away", (_request, response) => {
                if (isOut("its source")) response.writeHead(503, TOLD_TO_WAIT.headers).end();
                else response.end(someBytes(1000));
            });
            const media = await started();
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            await until(async () => {
                for await (const { error } of media.jobs()) if (error !== undefined) return true;
                return false;
            });
            turn(-3 * DAY);
            isAway = false;
            expect((await sent.uploads[0]?.done)?.state).to.equal("done");
        });

    it("ahead: a file that fails then is tried again after its wait all the same", async () => {
        let requests = 0;
        const url = remote.on("/once", (_request, response) => {
            if (requests++ === 0) response.writeHead(503).end();
            else response.end(someBytes(1000));
        });
        const media = await started();
        turn(HOUR / 2);
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        expect((await sent.uploads[0]?.done)?.state).to.equal("done");
    });

    for (const [where, days] of [
        ["ahead", 3],
        ["back", -3],
    ] as const)
        it(`${where}: a user at its limit of addresses is asked for again when it was to be, not before`, () => {
            const limits = new UserLimits(silentLogger);
            limits.refused(alice, new MediaError("HOMESERVER_RATE_LIMITED", { retryAfterMs: 30_000 }));
            turn(days * DAY, 29_000);
            expect([limits.isBlocked(alice), limits.blockedFor(alice) > 0]).to.deep.equal([true, true]);
            mock.timers.reset();
            turn(days * DAY, 2000);
            expect([limits.isBlocked(alice), limits.blockedFor(alice)]).to.deep.equal([false, 0]);
        });

    it("back: an address is asked for again five minutes after a 404 that did not say why", async () => {
        const stop = world.homeserver.intercept(({ path }) =>
            path.endsWith("/create") ? { status: 404, body: {} } : undefined,
        );
        const media = await started();
        await media.send(photo("one"));
        stop();
        const before = asked("/create");
        turn(-3 * DAY, 6 * MINUTE);
        await media.send(photo("two"));
        expect(asked("/create")).to.be.greaterThan(before);
    });

    it("back: a storage that was down is tried again after its pause", () => {
        const storages = new StorageBreaker();
        const begin = () => storages.begin("https://storage.example/file");
        for (let failures = 0; failures < 5; failures++) begin()?.ended("PRESIGNED_UNAVAILABLE");
        expect(begin(), "at once").to.equal(undefined);
        turn(-3 * DAY, MINUTE);
        expect(begin()).to.not.equal(undefined);
    });

    it("back: a shared file that was looked at in what is the future now is looked at again", async () => {
        const media = await started();
        await (await media.send(photo("one", "shared"))).uploads[0]?.done;
        turn(-3 * DAY);
        await media.send(photo("two", "shared"));
        expect(asked("/download/")).to.equal(1);
    });

    for (const [where, days] of [
        ["ahead", 60],
        ["back", -60],
    ] as const)
        it(`${where}: what has just ended is not forgotten as if it were old`, async () => {
            if (days < 0) turn(days * DAY);
            const { contentUri } =
                (await (await (await started()).send(photo("one", "shared"))).uploads[0]?.done) ?? {};
            await open?.close();
            mock.timers.reset();
            mock.timers.enable({ apis: ["Date", "setTimeout"], now: Date.now() + days * DAY });
            const media = await started();
            // The first look at what is to be tidied away.
            mock.timers.tick(2 * MINUTE);
            mock.timers.reset();
            await media.close();
            const again = await started();
            await again.send(photo("one", "shared"));
            expect(asked("/send/"), "events").to.equal(1);
            expect((await again.send(photo("two", "shared"))).uploads[0]?.contentUri).to.equal(contentUri);
        });

    it("ahead, before a restart: what has failed since is not forgotten as if it were old", async () => {
        turn(60 * DAY);
        const media = await started();
        const { uploads } = await media.send(
            photoMessage(roomId, alice, { kind: "http", url: `${remote.url}/gone` }, { id: "one" }),
        );
        const failed = await uploads[0]?.done.catch((error: MediaError) => error.code);
        expect(failed).to.equal("SOURCE_NOT_FOUND");
        await media.close();
        // The next process begins with the clock as it is.
        mock.timers.reset();
        pass(60 * DAY);
        mock.timers.enable({ apis: ["Date", "setTimeout"], now: Date.now() + 60 * DAY });
        const again = await started();
        mock.timers.tick(2 * MINUTE);
        mock.timers.reset();
        await again.close();
        const last = await started();
        expect(await count(last)).to.equal(1);
    });

    it("ahead, to where it stays: what is old by then is forgotten", async () => {
        let hours = 0;
        mock.timers.enable({ apis: ["Date", "setInterval"], now: Date.now() });
        const media = await started();
        mock.timers.setTime(Date.now() + 60 * DAY);
        await (await media.send(photo("one"))).uploads[0]?.done;
        // Nothing waits for what is tidied away, and a clock in which days go by is none to wait by.
        for (; hours < 1000 && (await count(media)) > 0; hours++) {
            mock.timers.tick(HOUR);
            pass(HOUR);
            await sleep(hours < 7 * 24 ? 0 : 20);
        }
        expect(hours).to.be.within(7 * 24, 999);
    });

    for (const [where, clockMs] of [
        ["ahead, as where the machine slept", 3 * DAY],
        ["back", -3 * DAY],
    ] as const)
        it(`${where}: a damaged journal is doubted for the rest of its hour by the next process`, async () => {
            const store = new LevelStore(join(world.dataDir, "journal"));
            await store.open(() => {});
            const users = new ActingUsers(world.bridge);
            const aftermath = (): Aftermath =>
                new Aftermath({
                    store,
                    logger: silentLogger,
                    reservations: new Reservations({
                        store,
                        users,
                        logger: silentLogger,
                        ahead: 0,
                        uris: new Unrepeated(),
                    }),
                    messageLocks: new KeyedLocks(),
                    jobLocks: new KeyedLocks(),
                    strategy: "spool",
                    onJob: () => {},
                    onReviewed: async () => {},
                });
            try {
                if (clockMs > 0) turn(clockMs);
                const first = aftermath();
                first.found({ finding: "a test" });
                await first.prepare();
                // The next process' steady clock begins with the other one; and that may have been set right in between.
                mock.timers.reset();
                turn(Math.max(clockMs, 0) + 20 * MINUTE, Math.max(clockMs, 0) + 20 * MINUTE);
                if (clockMs < 0) turn(clockMs, clockMs);
                const next = aftermath();
                await next.prepare();
                expect(next.isInDoubt).to.equal(true);
                turn(0, 61 * MINUTE);
                expect(next.isInDoubt).to.equal(false);
            } finally {
                await store.close();
            }
        });

    it("ahead: a damaged journal is doubted for its hour all the same", () => {
        const aftermath = new Aftermath({ logger: silentLogger } as AftermathParts);
        aftermath.found({ finding: "a test" });
        turn(3 * DAY, 59 * MINUTE);
        expect(aftermath.isInDoubt).to.equal(true);
        mock.timers.reset();
        turn(3 * DAY, 2 * MINUTE);
        expect(aftermath.isInDoubt).to.equal(false);
    });
});
