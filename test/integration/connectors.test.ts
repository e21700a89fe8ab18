import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { type BridgeMedia, type Connector, type ConnectorFile, MediaError, type SentMessage } from "../../src/index.ts";
import { download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const BYTES = someBytes(300_000);
const whole = (): ConnectorFile => ({ stream: Readable.from([BYTES]), size: BYTES.length });

describe("a connector", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    async function started(connector: Connector, options: Parameters<typeof world.component>[0] = {}) {
        const media = world.component({
            maxAttempts: 2,
            connectors: { net: connector },
            ...options,
        });
        await media.start();
        return media;
    }

    /** How the transfer of one file through it ends. */
    async function transferred(connector: Connector, options: Parameters<typeof world.component>[0] = {}) {
        const media = await started(connector, options);
        const source = { kind: "connector", connector: "net", ref: "stale" } as const;
        const { uploads } = await media.send(photoMessage(roomId, alice, source));
        const end = await uploads[0]?.done.then(
            () => "done",
            (error: MediaError) => error.code,
        );
        await media.close();
        return { end, uploads };
    }

    /** Opens only the reference "fresh", and says what was asked of it. */
    function expiring(refusal: () => unknown) {
        const asked: string[] = [];
        const connector: Connector = {
            async open(ref) {
                asked.push(`open ${String(ref)}`);
                if (ref !== "fresh") throw refusal();
                return whole();
            },
            async refresh(ref) {
                asked.push(`refresh ${String(ref)}`);
                return "fresh";
            },
        };
        return { connector, asked };
    }

    it("is asked for a fresh reference at 401, 403, 404 and 410, in whatever shape its library says so", async () => {
        const refusals: (() => unknown)[] = [
            () => Object.assign(new Error("Unauthorized"), { status: 401 }),
            () => Object.assign(new Error("Forbidden"), { statusCode: 403 }),
            () => Object.assign(new Error("Not found"), { response: { status: 404 } }),
            () => Object.assign(new Error("Gone"), { response: { statusCode: 410 } }),
            () => new MediaError("SOURCE_NOT_FOUND"),
            () => new MediaError("SOURCE_FORBIDDEN"),
        ];
        for (const refusal of refusals) {
            const { connector, asked } = expiring(refusal);
            const { end, uploads } = await transferred(connector, { maxAttempts: 1 });
            expect(end).to.equal("done");
            expect(asked).to.deep.equal(["open stale", "refresh stale", "open fresh"]);
            expect((await download(world.homeserver, uploads[0]?.contentUri ?? "")).body.equals(BYTES)).to.equal(true);
        }
    });

    it("is not asked for one when the network merely fails, and may throw plain errors", async () => {
        const thrown = [
            new Error("socket hang up"),
            "a string",
            undefined,
            Object.assign(new Error("Bad gateway"), { response: { status: 502 } }),
        ];
        for (const error of thrown) {
            let failures = 0;
            const connector: Connector = {
                async open() {
                    if (failures++ === 0) throw error;
                    return whole();
                },
                refresh: async () => expect.fail("refresh was called"),
            };
            expect((await transferred(connector)).end).to.equal("done");
            expect(failures).to.equal(2);
        }
    });

    it("is asked once a try: a fresh reference that is refused too ends it", async () => {
        let refreshed = 0;
        const connector: Connector = {
            async open() {
                throw Object.assign(new Error("Gone"), { status: 410 });
            },
            refresh: async () => ++refreshed,
        };
        expect((await transferred(connector, { maxAttempts: 5 })).end).to.equal("SOURCE_NOT_FOUND");
        expect(refreshed).to.equal(1);
    });

    it("is given the fresh reference again at the next try, also after a restart", async () => {
        for (const failing of ["stream", "open"] as const) {
            const asked: unknown[] = [];
            let broken = true;
            const connector: Connector = {
                async open(ref) {
                    asked.push(ref);
                    if (ref === "stale") throw Object.assign(new Error("Expired"), { status: 403 });
                    if (broken && failing === "open") throw new Error("no connection");
                    if (!broken) return whole();
                    const stream = Readable.from([BYTES.subarray(0, 1000)]);
                    return {
                        stream: stream.map(
                            (chunk: Buffer) => ((broken = false), stream.destroy(new Error("cut")), chunk),
                        ),
                        size: 9999,
                    };
                },
                async refresh(ref) {
                    asked.push(`refresh ${String(ref)}`);
                    return { token: "fresh" };
                },
            };
            const media = await started(connector, { maxAttempts: 100 });
            const source = { kind: "connector", connector: "net", ref: "stale" } as const;
            const { uploads } = await media.send(photoMessage(roomId, alice, source));
            await until(() => asked.length >= 3);
            const refreshes = (): unknown[] => asked.filter((what) => String(what).startsWith("refresh"));
            await media.close();
            expect(asked.slice(0, 3)).to.deep.equal(["stale", "refresh stale", { token: "fresh" }]);
            broken = false;
            const next = await started(connector);
            const state = async (): Promise<boolean> => {
                for await (const job of next.jobs({ state: "done" })) if (job.id === uploads[0]?.jobId) return true;
                return false;
            };
            await until(state);
            expect(refreshes()).to.have.length(1);
            expect(asked.at(-1)).to.deep.equal({ token: "fresh" });
            await next.close();
        }
    });

    it("is given the fresh reference again where its process ended in the middle of the file", async () => {
        const left = await mkdtemp(join(tmpdir(), "left-"));
        const { connector, asked } = expiring(() => new MediaError("SOURCE_FORBIDDEN"));
        let isRead = false;
        const silent = () => new Readable({ read: () => (isRead = true) });
        const media = await started({
            ...connector,
            async open(...given) {
                const file = await connector.open(...given);
                return { ...file, stream: silent() };
            },
        });
        const source = { kind: "connector", connector: "net", ref: "stale" } as const;
        const { uploads } = await media.send(photoMessage(roomId, alice, source));
        await until(() => isRead);
        // What a kill leaves: a process that closes journals how its try ended, and the reference with it.
        await cp(world.dataDir, left, { recursive: true });
        await media.close();
        const next = await started(connector, { dataDir: left });
        await until(() => world.homeserver.media(uploads[0]?.contentUri ?? ""));
        expect(asked).to.deep.equal(["open stale", "refresh stale", "open fresh", "open fresh"]);
        await next.close();
        await rm(left, { recursive: true });
    });

    it("that never answers, or falls silent, ends in time and is told to stop", async () => {
        let aborted = 0;
        const silent: Connector = { open: () => new Promise(() => {}) };
        const [noAnswer, noByte] = [{ timeLimits: { headersMs: 200 } }, { timeLimits: { idleMs: 200 } }];
        expect((await transferred(silent, noAnswer)).end).to.equal("SOURCE_TIMEOUT");
        const stalling: Connector = {
            async open() {
                const stream = new Readable({ read() {} });
                stream.push(BYTES.subarray(0, 1000));
                stream.once("close", () => aborted++);
                return { stream, size: BYTES.length };
            },
        };
        expect((await transferred(stalling, noByte)).end).to.equal("SOURCE_TIMEOUT");
        expect(aborted).to.equal(2);
        const refreshing = expiring(() => new MediaError("SOURCE_FORBIDDEN")).connector;
        const stuck = { ...refreshing, refresh: () => new Promise(() => {}) };
        expect((await transferred(stuck, noAnswer)).end).to.equal("SOURCE_TIMEOUT");
    });

    describe("whose stream does not hear the signal", () => {
        const source = { kind: "connector", connector: "net", ref: 1 } as const;
        let over: AbortController;
        beforeEach(() => (over = new AbortController()));
        afterEach(() => over.abort());
        const opening = (given: { size?: number }, next: () => Promise<Uint8Array>): Connector => ({
            async open() {
                const { signal } = over;
                const stream = {
                    destroy: () => {},
                    async *[Symbol.asyncIterator]() {
                        while (!signal.aborted) yield await next();
                    },
                };
                return { ...given, stream };
            },
        });
        const drip = (): Promise<Uint8Array> => sleep(20, Buffer.from("x"));
        const silence = (): Promise<Uint8Array> => new Promise(() => {});
        for (const [name, connector] of [
            ["one that drips, without a length", opening({}, drip)],
            ["one that drips", opening({ size: 2 ** 20 }, drip)],
            ["one that is silent", opening({ size: 2 ** 20 }, silence)],
        ] as const) {
            it(`totalMs ends it: ${name}`, async () => {
                const timeLimits = { idleMs: 60_000, totalMs: 300 };
                expect((await transferred(connector, { maxAttempts: 1, timeLimits })).end).to.equal("TRANSFER_TIMEOUT");
            });

            it(`so do cancel() and close(): ${name}`, async () => {
                const media = await started(connector, { timeLimits: { idleMs: 60_000 } });
                const [cancelled, closed] = await Promise.all(
                    [1, 2].map(() => media.send(photoMessage(roomId, alice, source))),
                );
                await until(async () => (await statesOf(media)).every((state) => state === "transferring"));
                await media.cancel(cancelled?.uploads[0]?.jobId ?? "");
                const ended = (sent: SentMessage | undefined): Promise<unknown> | undefined =>
                    sent?.uploads[0]?.done.catch(({ code }: MediaError) => code);
                expect(await ended(cancelled)).to.equal("CANCELLED");
                await media.close();
                expect(await ended(closed)).to.equal("CLOSED");
            });
        }
    });

    it("that gives something else than it should fails its file and nothing more", async () => {
        const answers: unknown[] = [
            undefined,
            {},
            { stream: "bytes" },
            { stream: Readable.from(["text", 7], { objectMode: true }), size: 5 },
        ];
        for (const answer of answers)
            expect((await transferred({ open: async () => answer as ConnectorFile })).end).to.equal(
                "SOURCE_UNAVAILABLE",
            );
        for (const size of [-1, 1.5, Number.NaN, "300000"])
            expect((await transferred({ open: async () => ({ ...whole(), size: size as number }) })).end).to.equal(
                "done",
            );
        const web = (): ConnectorFile => ({ stream: new Blob([BYTES]).stream() as unknown as ConnectorFile["stream"] });
        expect((await transferred({ open: async () => web() })).end).to.equal("done");
        for (const ref of [undefined, () => {}, "x".repeat(70_000)]) {
            const { connector } = expiring(() => new MediaError("SOURCE_FORBIDDEN"));
            expect((await transferred({ ...connector, refresh: async () => ref })).end).to.equal("SOURCE_UNAVAILABLE");
        }
    });
});

async function statesOf(media: BridgeMedia): Promise<string[]> {
    const states: string[] = [];
    for await (const { state } of media.jobs()) states.push(state);
    return states;
}
