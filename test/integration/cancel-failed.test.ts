import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { Registry } from "prom-client";
import { FINISHED, finishedWrite } from "../../src/bridge/records.ts";
import {
    BridgeMedia,
    type BridgeMediaOptions,
    type FailureInfo,
    type JobInfo,
    type MediaError,
    type RemoteMessage,
    type SentMessage,
} from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { JOBS } from "../../src/uploads/job-records.ts";
import { readable, standInCrypto, withCrypto } from "../support/crypto.ts";
import { edits, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { sweeperOf } from "../support/sweeper.ts";
import { until } from "../support/until.ts";

const isUpload = ({ method, path }: { method: string; path: string }): boolean =>
    method === "PUT" && path.includes("/upload/");

describe("a failed file that is cancelled", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let media: BridgeMedia;
    let registry: Registry;
    let told: JobInfo[];
    let stopRefusing: () => void;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene({ txnMemoryMs: 0 }));
        stopRefusing = world.homeserver.intercept((request) =>
            isUpload(request) ? { status: 400, body: { errcode: "M_UNKNOWN", error: "not this one" } } : undefined,
        );
    });
    afterEach(async () => {
        await media.close();
        await closeScene({ world, remote });
    });

    async function begin(options: Partial<BridgeMediaOptions> = {}, made?: BridgeMedia): Promise<void> {
        media = made ?? world.component({ maxAttempts: 1, ...options });
        registry = new Registry();
        media.registerMetrics(registry);
        told = [];
        media.on("job", (job) => told.push(job));
        await media.start();
    }

    const handedOver = (extra: Partial<RemoteMessage> = {}, size = 5000): RemoteMessage =>
        photoMessage(roomId, alice, { kind: "buffer", data: someBytes(size) }, extra);
    const jobOf = ({ uploads }: Pick<SentMessage, "uploads">): string => uploads[0]?.jobId ?? "";
    const code = (promise: Promise<unknown> | undefined): Promise<string> | undefined =>
        promise?.then(
            () => "none",
            (error: MediaError) => error.code,
        );
    const metric = async (name: string): Promise<string | undefined> =>
        (await registry.metrics()).split("\n").find((line) => line.startsWith(`bridge_media_${name} `));
    const spooled = (): Promise<string[]> => readdir(join(world.dataDir, "spool"));
    const shown = (eventId: string) => edits(world.homeserver, roomId).get(eventId);
    const redactions = () => world.homeserver.events(roomId).filter(({ type }) => type === "m.room.redaction");
    const stateOf = async (id: string): Promise<string | undefined> => {
        for await (const job of media.jobs()) if (job.id === id) return job.state;
        return undefined;
    };
    const failed = async (message: RemoteMessage): Promise<SentMessage> => {
        const sent = await media.send(message);
        await sent.uploads[0]?.done.catch(() => {});
        await until(() => shown(sent.eventId));
        return sent;
    };
    /** Whatever was set off by then has come to its end: what is sent last is told last. */
    const settled = async (): Promise<void> => {
        await media.send(textMessage(roomId, alice, "and now something else"));
    };
    const inJournal = async <T>(look: (store: LevelStore) => Promise<T>): Promise<T> => {
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        try {
            return await look(store);
        } finally {
            await store.close();
        }
    };

    const ways: [string, (sent: SentMessage) => Promise<void>][] = [
        ["cancel()", (sent) => media.cancel(jobOf(sent))],
        ["cancelMessage()", ({ id }) => media.cancelMessage(id)],
    ];
    for (const [name, cancel] of ways) {
        it(`${name} frees its bytes, is told once, and leaves what the room was told`, async () => {
            await begin();
            const sent = await failed(handedOver());
            expect(await spooled()).to.have.length(1);
            const count = messages(world.homeserver, roomId).length;
            const notice = shown(sent.eventId);
            expect(notice?.["body"]).not.to.contain("cancelled");
            told = [];
            await cancel(sent);
            expect(await spooled()).to.deep.equal([]);
            expect(await metric("spool_bytes")).to.equal("bridge_media_spool_bytes 0");
            expect(await stateOf(jobOf(sent))).to.equal("cancelled");
            expect(told.map(({ state }) => state)).to.deep.equal(["cancelled"]);
            expect(await code(media.retry(jobOf(sent)))).to.equal("JOB_NOT_RETRYABLE");
            await cancel(sent);
            await settled();
            await media.close();
            expect(told).to.have.length(1);
            expect(messages(world.homeserver, roomId)).to.have.length(count + 1);
            expect(shown(sent.eventId)).to.deep.equal(notice);
            // It had ended: its end is counted once, and nothing is pending.
            expect(await metric('jobs_finished_total{outcome="failed"}')).to.match(/ 1$/);
            expect(await metric('jobs_finished_total{outcome="cancelled"}')).to.equal(undefined);
            expect(await metric("pending_jobs")).to.equal("bridge_media_pending_jobs 0");
        });
    }

    for (const redact of ["cancel()", "cancelMessage()"]) {
        it(`${redact} with redact takes the message back, and its file with it`, async () => {
            await begin();
            const sent = await failed(handedOver());
            if (redact === "cancel()") await media.cancel(jobOf(sent), { redact: true });
            else await media.cancelMessage(sent.id, { redact: true });
            expect(await spooled()).to.deep.equal([]);
            expect(await stateOf(jobOf(sent))).to.equal("cancelled");
            await until(() => redactions().some(({ redacts }) => redacts === sent.eventId));
            expect(await code(media.retry(jobOf(sent)))).to.equal("JOB_NOT_RETRYABLE");
        });
    }

    it("a full spool takes what is sent next", async () => {
        await begin({ maxSpoolBytes: 10_000 });
        const sent = [await failed(handedOver()), await failed(handedOver())];
        expect(await code(media.send(handedOver()))).to.equal("SPOOL_FULL");
        stopRefusing();
        for (const { id } of sent) await media.cancelMessage(id);
        // At once, and as much as there is room for.
        const next = await media.send(handedOver({}, 10_000));
        expect((await next.uploads[0]?.done)?.state).to.equal("done");
    });

    it("keeps nothing that could be misused, and is forgotten with the results, by the one row of its end", async () => {
        await begin();
        const source = {
            kind: "http",
            url: `${remote.file(someBytes(10))}?token=secret`,
            headers: { cookie: "secret" },
        };
        const sent = await failed(photoMessage(roomId, alice, source as never));
        const rows = async (store: LevelStore): Promise<string[]> => {
            const ends: string[] = [];
            for await (const key of store.keys({ collection: FINISHED })) if (key.includes(" job ")) ends.push(key);
            return ends;
        };
        const journaled = () =>
            inJournal(async (store) => ({
                ends: await rows(store),
                job: JSON.stringify(await store.get(JOBS, jobOf(sent))),
            }));
        await media.close();
        // As a sweep leaves it that found the message's other files unfinished.
        await inJournal(async (store) => {
            const [key = ""] = await rows(store);
            await store.commit([{ collection: FINISHED, key }, finishedWrite(Date.now(), "job", jobOf(sent))]);
        });
        const before = await journaled();
        expect(before.job).to.contain("secret");
        await begin();
        await media.cancel(jobOf(sent));
        await media.close();
        const after = await journaled();
        expect(after.job).to.contain("cancelled").and.not.to.contain("secret");
        expect(after.ends).to.deep.equal(before.ends).and.to.have.length(1);
        await inJournal(async (store) => {
            await sweeperOf(store, world.dataDir).sweep(Date.now() + 1);
            expect(await store.get(JOBS, jobOf(sent))).to.equal(undefined);
            for await (const key of store.keys({ collection: FINISHED })) expect.fail(key);
        });
    });

    it("a crash between its commit and the end of its bytes leaves none behind", async () => {
        await begin();
        const sent = await failed(handedOver());
        const [spool, aside] = [join(world.dataDir, "spool"), join(world.dataDir, "aside")];
        await cp(spool, aside, { recursive: true });
        await media.cancel(jobOf(sent));
        await media.close();
        await cp(aside, spool, { recursive: true });
        expect(await spooled()).to.have.length(1);
        await begin();
        expect(await spooled()).to.deep.equal([]);
        expect(await metric("spool_bytes")).to.equal("bridge_media_spool_bytes 0");
        expect(await code(media.retry(jobOf(sent)))).to.equal("JOB_NOT_RETRYABLE");
    });

    it("a crash before its end was journaled: what was taken back is ended at the next start", async () => {
        let isDying = false;
        class Dying extends LevelStore {
            override async commit(...[writes]: Parameters<LevelStore["commit"]>): Promise<void> {
                if (isDying && JSON.stringify(writes).includes('"cancelled"')) throw new Error("the process died");
                return super.commit(writes);
            }
        }
        await begin({ store: (directory) => new Dying(directory) });
        const sent = await failed(handedOver());
        isDying = true;
        await media.cancelMessage(sent.id, { redact: true }).catch(() => {});
        expect(await stateOf(jobOf(sent))).to.equal("failed");
        await media.close();
        await begin();
        await until(async () => (await stateOf(jobOf(sent))) === "cancelled");
        await until(() => redactions().some(({ redacts }) => redacts === sent.eventId));
        await until(async () => (await spooled()).length === 0);
    });

    it("an onFailure function is not asked anew", async () => {
        const asked: FailureInfo[] = [];
        const onFailure = (failure: FailureInfo) => {
            asked.push(failure);
            return { msgtype: "m.text", body: `lost: ${failure.code}` };
        };
        await begin({ onFailure });
        const sent = await failed(handedOver());
        const notice = shown(sent.eventId);
        await media.cancel(jobOf(sent));
        await settled();
        await media.close();
        expect(asked).to.have.length(1);
        expect(shown(sent.eventId)).to.deep.equal(notice);
    });

    it("what is edited afterwards still says why the file did not come", async () => {
        await begin();
        const sent = await failed(handedOver());
        const reason = String(shown(sent.eventId)?.["body"]);
        await media.cancel(jobOf(sent));
        const content = { msgtype: "m.image", body: "Look!", filename: "cat.jpg", info: { mimetype: "image/jpeg" } };
        await media.edit(sent.id, { id: "edit", content });
        expect(shown(sent.eventId)?.["body"]).to.equal(`${reason}\n\nLook!`);
    });

    it("one that was tried again and is cancelled meanwhile is told as cancelled", async () => {
        await begin();
        const sent = await failed(handedOver());
        stopRefusing();
        world.homeserver.intercept((request) => (isUpload(request) ? { drop: "before" } : undefined));
        await media.retry(jobOf(sent));
        await media.cancel(jobOf(sent));
        await until(() => String(shown(sent.eventId)?.["body"]).includes("cancelled"));
        expect(await spooled()).to.deep.equal([]);
    });

    it("a bare upload's too", async () => {
        await begin();
        const { jobId, done } = await media.upload({ kind: "buffer", data: someBytes(100) }, { userId: alice });
        await done.catch(() => {});
        await media.cancel(jobId);
        expect(await stateOf(jobId)).to.equal("cancelled");
        expect(await spooled()).to.deep.equal([]);
    });

    it("one that failed before its event goes with its message, when that is taken back or refused", async () => {
        for (const way of ["taken back", "refused"]) {
            let hold = true;
            const stop = world.homeserver.intercept((request) => {
                if (!request.path.includes("/send/")) return undefined;
                return hold ? { status: 503, body: {} } : { status: 400, body: { errcode: "M_BAD_JSON" } };
            });
            const crypto = standInCrypto(roomId);
            const bridge = withCrypto(world.bridge, () => crypto);
            const { dataDir } = world;
            await begin({}, new BridgeMedia(bridge, { dataDir, allowPrivateAddresses: true, maxAttempts: 1 }));
            const source = {
                kind: "http",
                url: `${remote.url}/gone?token=secret`,
                headers: { cookie: "secret" },
            } as const;
            const sending = code(media.send(photoMessage(roomId, alice, source, { id: way })));
            const failedJob = await until(() => told.find(({ state }) => state === "failed"));
            if (way === "taken back") {
                void media.cancelMessage(way).catch(() => {});
                await until(() => world.homeserver.requests.some(({ path }) => path.includes("/send/")));
            }
            hold = false;
            expect(await sending).to.equal(way === "taken back" ? "CANCELLED" : "EVENT_REFUSED");
            await until(async () => (await stateOf(failedJob.id)) === "cancelled");
            expect(await metric("pending_jobs")).to.equal("bridge_media_pending_jobs 0");
            expect(readable(world.homeserver, roomId)).to.deep.equal([]);
            await media.close();
            const job = await inJournal(async (store) => JSON.stringify(await store.get(JOBS, failedJob.id)));
            expect(job).not.to.contain("secret");
            stop();
        }
    });

    it("in an encrypted room its message's keys go too", async () => {
        const crypto = standInCrypto(roomId);
        const bridge = withCrypto(world.bridge, () => crypto);
        const { dataDir } = world;
        await begin({}, new BridgeMedia(bridge, { dataDir, allowPrivateAddresses: true, maxAttempts: 1 }));
        const source = { kind: "http", url: remote.file(someBytes(700)) } as const;
        const sent = await media.send(photoMessage(roomId, alice, source));
        await sent.uploads[0]?.done.catch(() => {});
        const events = () => world.homeserver.events(roomId).filter(({ type }) => type === "m.room.encrypted");
        await until(() => readable(world.homeserver, roomId)[0]?.content["msgtype"] === "m.notice");
        const [notice] = readable(world.homeserver, roomId);
        expect(events()).to.have.length(2);
        expect(await spooled()).to.have.length(1);
        await media.cancel(jobOf(sent));
        expect(await spooled()).to.deep.equal([]);
        await settled();
        await media.close();
        expect(events(), "and what was sent last").to.have.length(3);
        expect(readable(world.homeserver, roomId)[0]).to.deep.equal(notice);
        const job = await inJournal((store) => store.get(JOBS, jobOf(sent)));
        expect(job?.["state"]).to.equal("cancelled");
        expect(job?.["encryption"]).not.to.have.property("file");
    });
});
