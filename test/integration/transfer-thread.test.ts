import { execFile } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readdir } from "node:fs/promises";
import type { ClientRequest } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";
import { BridgeMedia, type JobInfo, MediaError } from "../../src/index.ts";
import { silentLogger } from "../../src/logger.ts";
import { Spool } from "../../src/uploads/sources/spool.ts";
import { TransferThread } from "../../src/uploads/thread/transfer-thread.ts";
import { decrypted, readable, standInCrypto, withCrypto } from "../support/crypto.ts";
import { download, messages } from "../support/download.ts";
import { someJob } from "../support/job.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { AS_TOKEN } from "../support/world.ts";

const LARGE = 3 * 2 ** 20;
/** This process' threads, as Linux shows them. */
const TASKS = "/proc/self/task";

describe("the thread of large files", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    const photo = (url: string, size?: number) =>
        photoMessage(roomId, alice, { kind: "http", url }, {}, size === undefined ? {} : { size });

    /** The paths that this thread asks for while `work` is done. */
    async function askedHere(work: () => Promise<unknown>): Promise<string[]> {
        const paths: string[] = [];
        const note = (message: unknown): void => {
            paths.push((message as { request: ClientRequest }).request.path);
        };
        subscribe("http.client.request.start", note);
        try {
            await work();
        } finally {
            unsubscribe("http.client.request.start", note);
        }
        return paths;
    }

    /** Answers with the beginning of a file, and nothing more; tells when its connections are closed. */
    function stalling() {
        let closed = 0;
        const url = remote.on("/stalls", (_request, response) => {
            response.writeHead(200, { "content-length": LARGE });
            response.write(someBytes(2 ** 20));
            response.on("close", () => closed++);
        });
        return { url, closed: () => closed };
    }

    it("takes a file that its message calls large, and every other one stays where it is", async () => {
        const bytes = someBytes(LARGE);
        const url = remote.file(bytes);
        const path = new URL(url).pathname;
        const cases: [Parameters<typeof world.component>[0], number | undefined, boolean][] = [
            [{}, LARGE, false],
            [{}, undefined, true],
            [{}, 100_000, true],
            [{ transferThread: false }, LARGE, true],
        ];
        for (const [options, size, isHere] of cases) {
            const media = world.component(options);
            await media.start();
            let mxc = "";
            const asked = await askedHere(async () => {
                const { uploads } = await media.send(photo(url, size));
                mxc = (await uploads[0]?.done)?.contentUri ?? "";
            });
            expect(asked.includes(path)).to.equal(isHere);
            expect(asked.some((path) => path.startsWith("/_matrix/media/v3/upload/"))).to.equal(isHere);
            expect(sha256((await download(world.homeserver, mxc)).body)).to.equal(sha256(bytes));
            await media.close();
        }
    });

    it("starts before the file's event is there, and for no small file", async () => {
        const media = world.component();
        await media.start();
        const eventsWhenStarted: number[] = [];
        const note = (): void => void eventsWhenStarted.push(messages(world.homeserver, roomId).length);
        process.on("worker", note);
        try {
            for (const size of [100_000, LARGE]) {
                const { uploads } = await media.send(photo(remote.file(someBytes(size)), size));
                await uploads[0]?.done;
            }
        } finally {
            process.off("worker", note);
        }
        expect(eventsWhenStarted).to.deep.equal([1]);
    });

    it("ends a file as the bridge's own thread does, word by word", async () => {
        const page = "\n<!DOCTYPE html><title>Sorry</title>";
        const answers: Record<string, Parameters<typeof remote.on>[1]> = {
            "/gone": (_request, response) => response.writeHead(404).end(),
            "/forbidden": (_request, response) => response.writeHead(403).end(),
            "/failing": (_request, response) => response.writeHead(503, { "retry-after": "0" }).end(),
            "/page": (_request, response) => response.writeHead(200, { "content-type": "image/jpeg" }).end(page),
            "/short": (_request, response) => {
                response.writeHead(200, { "content-length": 1000 });
                response.write(someBytes(900), () => response.destroy());
            },
            "/silent": () => {},
            "/large": (_request, response) => response.writeHead(200, { "content-length": 2 ** 40 }).end(),
        };
        const urls = [
            ...Object.entries(answers).map(([path, answer]) => remote.on(path, answer)),
            "http://127.0.0.1:9/refused",
            "http://169.254.169.254/latest/meta-data",
        ];
        const ends = async (transferThread: boolean) => {
            const media = world.component({
                transferThread,
                maxAttempts: 1,
                timeLimits: { headersMs: 1000 },
                allowPrivateAddresses: ["127.0.0.0/8"],
            });
            await media.start();
            const found: Record<string, unknown> = {};
            for (const url of urls) {
                const { uploads } = await media.send(photo(url, LARGE));
                await uploads[0]?.done.catch(({ code, message, limit }: MediaError) => {
                    found[url] = { code, message, limit };
                });
            }
            await media.close();
            return found;
        };
        const here = await ends(false);
        expect(Object.keys(here)).to.deep.equal(urls);
        expect(await ends(true)).to.deep.equal(here);
    });

    it("leaves to the bridge's thread what only that has: a connector's file, and one that was opened for its headers", async () => {
        const bytes = someBytes(LARGE);
        const connectors = { ours: { open: async () => ({ stream: Readable.from([bytes]), size: LARGE }) } };
        const media = world.component({ connectors });
        await media.start();
        const url = remote.file(bytes);
        const known = { at: ["url"], size: LARGE };
        for (const item of [
            { ...known, source: { kind: "connector", connector: "ours", ref: 1 } },
            { ...known, source: { kind: "http", url }, probeHeaders: true },
        ] as const) {
            const { uploads } = await media.send({ ...photo(url), media: [item] });
            const { contentUri = "" } = (await uploads[0]?.done) ?? {};
            expect((await download(world.homeserver, contentUri)).body.equals(bytes)).to.equal(true);
        }
        expect(remote.requests).to.have.length(1);
    });

    it("is gone when the component is", async () => {
        const before = (await readdir(TASKS)).length;
        const media = world.component();
        await media.start();
        const { uploads } = await media.send(photo(remote.file(someBytes(LARGE)), LARGE));
        await uploads[0]?.done;
        expect((await readdir(TASKS)).length).to.be.greaterThan(before);
        await media.close();
        await until(async () => (await readdir(TASKS)).length <= before);
    });

    for (const encryption of ["spool", "two-pass"] as const) {
        it(`uploads an encrypted file that was prepared here, ${encryption}`, async () => {
            const bytes = someBytes(LARGE);
            const crypto = standInCrypto(roomId);
            const bridge = withCrypto(world.bridge, () => crypto);
            const { dataDir } = world;
            const media = new BridgeMedia(bridge, { dataDir, allowPrivateAddresses: true, encryption });
            await media.start();
            const asked = await askedHere(async () => {
                const { uploads } = await media.send(photo(remote.file(bytes), LARGE));
                await uploads[0]?.done;
            });
            await media.close();
            expect(asked.filter((path) => path.startsWith("/_matrix/media/v3/upload/"))).to.deep.equal([]);
            const file = readable(world.homeserver, roomId)[0]?.content["file"] as { url: string };
            const { body } = await download(world.homeserver, file.url);
            expect((await decrypted(body, file)).equals(bytes)).to.equal(true);
            expect(await readdir(join(dataDir, "spool"))).to.deep.equal([]);
        });
    }

    it("copies a source without a length to the spool, within that one's bound", async () => {
        const bytes = someBytes(LARGE);
        const url = remote.on("/chunked", (_request, response) => response.writeHead(200).end(bytes));
        const spooled = () => readdir(join(world.dataDir, "spool"));
        const roomy = world.component({ maxSpoolBytes: LARGE });
        await roomy.start();
        const { uploads } = await roomy.send(photo(url, LARGE));
        const { contentUri = "" } = (await uploads[0]?.done) ?? {};
        expect((await download(world.homeserver, contentUri)).body.equals(bytes)).to.equal(true);
        expect(await spooled()).to.deep.equal([]);
        await roomy.close();

        const narrow = world.component({ maxSpoolBytes: LARGE - 1 });
        await narrow.start();
        const sent = await narrow.send(photo(url, LARGE));
        const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "FILE_TOO_LARGE" });
        expect(await spooled()).to.deep.equal([]);
    });

    it("tells how far a file is, and lets go of it at once when it is cancelled", async () => {
        const { url, closed } = stalling();
        const media = world.component();
        await media.start();
        const seen: JobInfo[] = [];
        media.on("job", (job) => seen.push(job));
        const { uploads } = await media.send(photo(url, LARGE));
        await until(() => seen.some(({ transferredBytes }) => transferredBytes > 0));
        const jobId = uploads[0]?.jobId ?? "";
        await media.cancel(jobId);
        await until(() => closed() === 1);
        expect(seen.at(-1)).to.include({ id: jobId, state: "cancelled" });
    });

    it("ends with the component, in the middle of a file, and the next start begins the file anew", async () => {
        const { url, closed } = stalling();
        const first = world.component();
        await first.start();
        const { uploads } = await first.send(photo(url, LARGE));
        await until(() => remote.requests.length === 1);
        await first.close();
        await until(() => closed() === 1);
        const bytes = someBytes(LARGE);
        remote.on("/stalls", (_request, response) => response.writeHead(200, { "content-length": LARGE }).end(bytes));
        const second = world.component();
        await second.start();
        const mxc = uploads[0]?.contentUri ?? "";
        await until(async () => (await download(world.homeserver, mxc, 0)).status === 200);
        expect(sha256((await download(world.homeserver, mxc)).body)).to.equal(sha256(bytes));
        await second.send(textMessage(roomId, alice, "still there"));
    });

    describe("with a module of the tests'", () => {
        const attempt = (id: string, signal = new AbortController().signal) => ({
            job: someJob({
                id,
                state: "transferring",
                uploader: alice,
                source: { kind: "http", url: `${remote.url}/gone` },
            }),
            maxBytes: LARGE,
            signal,
            watch: { onBytes: () => {}, onRefreshed: async () => {} },
        });
        const access = () => ({ homeserverUrl: world.homeserver.url, accessToken: "t", userId: alice });

        function threadOf(name?: string) {
            const warnings: string[] = [];
            const errors: unknown[] = [];
            const cleared: string[] = [];
            const thread = new TransferThread({
                settings: {
                    spool: new Spool(world.dataDir, 1000).share,
                    allowPrivateAddresses: true,
                    timeLimits: { connectMs: 1000, headersMs: 1000, idleMs: 1000, totalMs: 1000 },
                },
                logger: {
                    ...silentLogger,
                    warn: (message) => warnings.push(message),
                    error: (...said) => errors.push(said),
                },
                here: async () => ({ size: 1, contentUri: "mxc://example.org/here" }),
                clearSpool: async (names) => void cleared.push(...names),
                letGoMs: 100,
                ...(name !== undefined && { entry: new URL(`../support/threads/${name}.mjs`, import.meta.url) }),
            });
            return { thread, warnings, errors, cleared };
        }

        it("what it logs is logged, and after the component's end nothing is", async () => {
            const { thread, warnings } = threadOf("telling");
            const { contentUri } = await thread.transfer(attempt("one"), access);
            expect(contentUri).to.equal("mxc://example.org/there");
            await until(() => warnings.includes("begin") && warnings.includes("alive"));
            await thread.close();
            const { length } = warnings;
            // As long as it would have taken to be heard of some ten times.
            await sleep(50);
            expect(warnings).to.have.length(length);
        });

        it("a file that is let go of while it starts is never begun", async () => {
            const { thread, warnings } = threadOf("telling");
            const controller = new AbortController();
            const ended = thread.transfer(attempt("one", controller.signal), access).catch((error: unknown) => error);
            const reason = new Error("cancelled");
            controller.abort(reason);
            expect(await ended).to.equal(reason);
            await thread.transfer(attempt("another"), access);
            await until(() => warnings.includes("begin"));
            await thread.close();
            expect(warnings.filter((message) => message === "begin")).to.have.length(1);
        });

        it("it holds no process that has nothing else to do", async () => {
            const script = fileURLToPath(new URL("../support/threads/leaving.ts", import.meta.url));
            const loader = new URL("../../scripts/typescript.mjs", import.meta.url).href;
            const { stdout } = await promisify(execFile)(process.execPath, [`--import=${loader}`, script], {
                timeout: 20_000,
            });
            expect(stdout.trim()).to.equal("mxc://example.org/there");
        });

        it("when it dies, its files are interrupted and what it may have spooled is removed; the third death is the last", async () => {
            const { thread, warnings, errors, cleared } = threadOf("dying");
            const ids = ["first", "second", "third"].flatMap((id) => [`waiting-${id}`, id]);
            for (const id of ["first", "second", "third"]) {
                const waits = thread.transfer(attempt(`waiting-${id}`), access);
                const error = await thread.transfer(attempt(id), access).catch((thrown: MediaError) => thrown);
                expect(error).to.include({ code: "UPLOAD_INTERRUPTED", retryable: true, ambiguous: true });
                // What was done before its end is done.
                expect(await waits).to.include({ contentUri: "mxc://example.org/there" });
            }
            expect(ids.map((id) => `${id}.copy`)).to.include.members(cleared);
            expect(cleared).to.have.length(3);
            expect(errors).to.have.length(3);
            expect(JSON.stringify(errors))
                .to.include("TypeError: no way to https://s3.example.org/a/b")
                .and.not.to.include("c4n4ry");
            expect(warnings).to.have.length(1);
            expect(await thread.transfer(attempt("fourth"), access)).to.include({
                contentUri: "mxc://example.org/here",
            });
            await thread.close();
        });

        it("one that hangs is ended when a file is to be let go of", async () => {
            const { thread, warnings } = threadOf("hanging");
            const controller = new AbortController();
            const ends = [attempt("one", controller.signal), attempt("beside")].map((one) =>
                thread.transfer(one, access).catch((error: unknown) => error),
            );
            await until(() => warnings.includes("hangs"));
            const reason = new Error("cancelled");
            controller.abort(reason);
            const [letGo, beside] = await Promise.all(ends);
            expect(letGo).to.equal(reason);
            expect(beside).to.include({ code: "UPLOAD_INTERRUPTED" });
            await thread.close();
        });

        it("one that never listens keeps nobody who wants to be let go of, nor the end of the component", async () => {
            const { thread, warnings } = threadOf("late");
            const reason = new Error("closing");
            const controller = new AbortController();
            const waits = thread.transfer(attempt("one", controller.signal), access).catch((error: unknown) => error);
            controller.abort(reason);
            expect(await waits).to.equal(reason);
            await thread.close();
            expect(warnings).to.deep.equal([]);
        });

        it("asks for the access to the homeserver when the file is at hand, and ends with what that ends with", async () => {
            const { thread } = threadOf();
            const bytes = someBytes(LARGE);
            const url = remote.file(bytes);
            const one = { ...attempt("one"), job: { ...attempt("one").job, source: { kind: "http" as const, url } } };
            const askedAfter: number[] = [];
            const { contentUri } = await thread.transfer(one, () => {
                askedAfter.push(remote.requests.length);
                return { homeserverUrl: world.homeserver.url, accessToken: AS_TOKEN, userId: alice };
            });
            expect(askedAfter).to.deep.equal([1]);
            expect((await download(world.homeserver, contentUri)).body.equals(bytes)).to.equal(true);
            const error = await thread
                .transfer(one, () => {
                    throw new MediaError("BRIDGE_NOT_READY");
                })
                .catch((thrown: MediaError) => thrown);
            expect(error).to.include({ code: "BRIDGE_NOT_READY" });
            await thread.close();
        });

        it("when it dies before it listens, the bridge's own thread does the work from then on, and the log says so once", async () => {
            const { thread, warnings } = threadOf("stillborn");
            for (const id of ["first", "second"]) {
                const { contentUri } = await thread.transfer(attempt(id), access);
                expect(contentUri).to.equal("mxc://example.org/here");
            }
            expect(warnings).to.have.length(1);
            await thread.close();
        });
    });
});
