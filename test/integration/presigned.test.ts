import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { BridgeMedia, type JobInfo, type MediaError } from "../../src/index.ts";
import { decrypted, readable, standInCrypto, withCrypto } from "../support/crypto.ts";
import { download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { presignedCases } from "../support/presigned-cases.ts";
import { gets, openPresignedScene, type PresignedScene } from "../support/presigned-scene.ts";
import { someBytes, startRemote } from "../support/remote.ts";
import { startS3rver } from "../support/s3rver.ts";
import type { Spoil } from "../support/faults/gate.ts";
import { until } from "../support/until.ts";

const isComplete = ({ path }: { path: string }): boolean => path.endsWith("/complete");

describe("presigned uploads into s3rver", () => {
    presignedCases(startS3rver);
});

describe("presigned uploads", () => {
    let scene: PresignedScene;
    afterEach(() => scene.close());

    /** Sends one photo, which must arrive. */
    async function arrives(options: Parameters<PresignedScene["world"]["component"]>[0] = {}) {
        const media = scene.world.component(options);
        await media.start();
        const bytes = someBytes(200_000);
        const photo = await scene.photo(media, bytes);
        expect(photo.job.state).to.equal("done");
        await scene.expectContent(photo, bytes);
        return { ...photo, media };
    }

    describe("a storage in trouble", () => {
        beforeEach(async () => {
            scene = await openPresignedScene(startS3rver);
        });

        /** Does `fault` to the first uploads. */
        function failing(times: number, fault: Spoil): void {
            let left = times;
            scene.storage.gate.fault = (request, response, exchange) => {
                if (request.method !== "PUT" || left === 0) return false;
                left--;
                return fault(request, response, exchange);
            };
        }
        const answering =
            (status: number, headers: Record<string, string> = {}): Spoil =>
            (request, response) => {
                request.resume();
                response.writeHead(status, headers).end();
                return true;
            };

        it("that stays down costs a backlog five tries, not three a file: the others go to the homeserver at once", async () => {
            failing(1000, answering(503));
            const { world, remote, alice, roomId } = scene;
            const media = world.component({ concurrency: 1 });
            await media.start();
            const bytes = someBytes(5000);
            const url = remote.file(bytes);
            const photos = Array.from({ length: 12 }, () => photoMessage(roomId, alice, { kind: "http", url }));
            const sent = await Promise.all(photos.map((photo) => media.send(photo)));
            for (const { uploads } of sent) {
                const job = await uploads[0]?.done;
                await scene.expectContent({ url, mxc: job?.contentUri ?? "", job: job as JobInfo }, bytes);
            }
            expect(scene.storage.gate.puts).to.have.length(5);
            expect(scene.outcomes()).to.deep.equal(Array<string>(12).fill("upload 200"));
        });

        it("that fails for a moment is tried again there", async () => {
            failing(2, answering(503));
            const { url } = await arrives();
            expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([503, 503, 200]);
            expect(scene.outcomes()).to.deep.equal(["complete 200"]);
            expect(gets(scene, url)).to.equal(3);
        });

        it("that keeps failing is left after three tries, which the file's own tries do not count", async () => {
            failing(Number.POSITIVE_INFINITY, answering(500));
            const { job } = await arrives({ maxAttempts: 1 });
            expect(scene.storage.gate.puts).to.have.length(3);
            expect(scene.outcomes()).to.deep.equal(["upload 200"]);
            expect(job.attempts).to.equal(0);
        });

        it("that cannot be reached is left after three tries", async () => {
            await scene.storage.gate.close();
            const { url } = await arrives();
            expect(scene.outcomes()).to.deep.equal(["upload 200"]);
            expect(gets(scene, url)).to.equal(4);
        });

        it("that takes the bytes and never answers is left after three tries", async () => {
            failing(Number.POSITIVE_INFINITY, (request) => {
                request.resume();
                return true;
            });
            await arrives({ timeLimits: { headersMs: 1000 } });
            expect(scene.storage.gate.puts).to.have.length(3);
            expect(scene.outcomes()).to.deep.equal(["upload 200"]);
        });

        for (const status of [200, 201, 204]) {
            it(`that answers ${status} has the file, and the homeserver is told`, async () => {
                scene.storage.gate.inject(
                    ({ request }) => request.method === "PUT",
                    async ({ deliver, response }) => {
                        await deliver();
                        response.writeHead(status).end();
                    },
                );
                const { url } = await arrives({ maxAttempts: 1 });
                expect(scene.outcomes()).to.deep.equal(["complete 200"]);
                expect(gets(scene, url)).to.equal(1);
            });
        }

        for (const status of [202, 203, 206, 400, 401, 403, 404, 405, 410, 411, 413]) {
            it(`that answers ${status} is left at once`, async () => {
                failing(Number.POSITIVE_INFINITY, answering(status));
                const { url } = await arrives({ maxAttempts: 1 });
                expect(scene.storage.gate.puts).to.have.length(1);
                expect(scene.outcomes()).to.deep.equal(["upload 200"]);
                expect(gets(scene, url)).to.equal(2);
            });
        }

        it("that redirects is left at once, and nobody is asked at the other address", async () => {
            const elsewhere = await startRemote();
            for (const status of [301, 302, 303, 307, 308]) {
                failing(1, answering(status, { location: `${elsewhere.url}/elsewhere` }));
                await (await arrives()).media.close();
            }
            expect(elsewhere.requests).to.deep.equal([]);
            expect(scene.outcomes()).to.deep.equal(Array(5).fill("upload 200"));
            await elsewhere.close();
        });

        it("costs nothing of a buffer or of a source without a length: both are there for the homeserver", async () => {
            failing(Number.POSITIVE_INFINITY, answering(403));
            const { world, remote, alice, roomId } = scene;
            const bytes = someBytes(100_000);
            const url = remote.on("/chunked", (_request, response) => void response.writeHead(200).end(bytes));
            const media = world.component();
            await media.start();
            for (const source of [{ kind: "buffer", data: bytes } as const, { kind: "http", url } as const]) {
                const sent = await media.send(photoMessage(roomId, alice, source));
                const mxc = sent.uploads[0]?.contentUri ?? "";
                const job = await sent.uploads[0]?.done;
                if (job === undefined) throw new Error("no upload");
                await scene.expectContent({ url, mxc, job }, bytes);
            }
            expect(scene.storage.gate.puts).to.have.length(2);
            expect(scene.outcomes()).to.deep.equal(["upload 200", "upload 200"]);
            expect(await readdir(join(world.dataDir, "spool"))).to.deep.equal([]);
        });

        it("whose answer was lost gets the same file at the same address again", async () => {
            failing(1, (_request, response) => {
                response.write = () => true;
                response.end = () => response.destroy();
                response.writeHead = () => response;
                return false;
            });
            await arrives();
            expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([undefined, 200]);
            expect(scene.outcomes()).to.deep.equal(["complete 200"]);
        });
    });

    it("an encrypted file is told by no name, and stored as nothing but bytes", async () => {
        scene = await openPresignedScene(startS3rver);
        const { world, remote, alice, roomId } = scene;
        const crypto = standInCrypto(roomId);
        const media = new BridgeMedia(
            withCrypto(world.bridge, () => crypto),
            { dataDir: world.dataDir, allowPrivateAddresses: true },
        );
        await media.start();
        const bytes = someBytes(20_000);
        const content = { msgtype: "m.image", body: "a-secret.jpg", info: { mimetype: "image/jpeg" } };
        const message = photoMessage(roomId, alice, { kind: "http", url: remote.file(bytes) }, { content });
        await (await media.send(message)).uploads[0]?.done;
        await media.close();
        expect(scene.outcomes()).to.deep.equal(["complete 200"]);
        const file = readable(world.homeserver, roomId)[0]?.content["file"] as { url: string };
        const { body } = await download(world.homeserver, file.url);
        expect((await decrypted(body, file)).equals(bytes)).to.equal(true);
        const stored = world.homeserver.media(file.url);
        expect([stored?.filename, stored?.contentType]).to.deep.equal([undefined, "application/octet-stream"]);
    });

    it("the homeserver is told the file's name with its end", async () => {
        scene = await openPresignedScene(startS3rver);
        const media = scene.world.component();
        await media.start();
        const name = "Möwe & Co?.jpg";
        const content = { msgtype: "m.image", body: name, info: { mimetype: "image/jpeg" } };
        const { mxc } = await scene.photo(media, someBytes(500), { content });
        expect(scene.outcomes()).to.deep.equal(["complete 200"]);
        expect(scene.world.homeserver.media(mxc)?.filename).to.equal(name);
    });

    it("a file of more than 5 GiB is not tried there, and the log says why", async () => {
        scene = await openPresignedScene(startS3rver, undefined, { maxUploadBytes: 2 ** 40 });
        const { world, remote, alice, roomId } = scene;
        const url = remote.on("/huge", (_request, response) => {
            response.writeHead(200, { "content-length": 5 * 2 ** 30 + 1 });
            response.write(Buffer.alloc(2 ** 20));
        });
        world.homeserver.intercept(({ method, path }) =>
            method === "PUT" && path.includes("/upload/")
                ? { status: 413, body: { errcode: "M_TOO_LARGE" } }
                : undefined,
        );
        const said: unknown[] = [];
        const note = (message: string, details?: unknown): void => void said.push({ message, details });
        const media = world.component({ logger: { debug: note, info: note, warn: note, error: note } });
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "FILE_TOO_LARGE" });
        expect(scene.storage.gate.puts).to.deep.equal([]);
        expect(scene.outcomes()).to.deep.equal(["upload 413"]);
        expect(JSON.stringify(said)).to.contain("more than 5368709120 bytes");
    });

    it("an address kept ahead is used after a restart", async () => {
        scene = await openPresignedScene(startS3rver);
        const { world } = scene;
        const { media } = await arrives();
        const creates = (): number => world.homeserver.requests.filter(({ path }) => path.endsWith("/create")).length;
        // The one used and the two ahead.
        await until(() => creates() === 3);
        await media.close();
        world.homeserver.intercept(({ path }) => (path.endsWith("/create") ? { status: 503, body: {} } : undefined));
        await arrives();
        expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([200, 200]);
        expect(scene.outcomes()).to.deep.equal(["complete 200", "complete 200"]);
    });

    it("a job that failed has lost its address: tried again, its file goes to the homeserver", async () => {
        scene = await openPresignedScene(startS3rver);
        const { world, remote, alice, roomId } = scene;
        const media = world.component();
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url: `${remote.url}/late` }));
        const [upload] = sent.uploads;
        const error = await upload?.done.catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "SOURCE_NOT_FOUND" });
        const bytes = someBytes(100);
        remote.on("/late", (_request, response) => void response.end(bytes));
        await media.retry(upload?.jobId ?? "");
        await until(() => world.homeserver.media(upload?.contentUri ?? ""));
        expect(scene.storage.gate.puts).to.deep.equal([]);
        expect(scene.outcomes()).to.deep.equal(["upload 200"]);
    });

    describe("names and paths", () => {
        for (const fields of ["stable", "unstable"] as const) {
            for (const path of ["stable", "unstable"] as const) {
                it(`${fields} fields and the ${path} /complete`, async () => {
                    scene = await openPresignedScene(startS3rver, () => ({ fields, completePaths: [path] }));
                    await arrives();
                    expect(scene.storage.gate.puts).to.have.length(1);
                    expect(scene.outcomes().at(-1)).to.equal("complete 200");
                });
            }
        }

        it("the path that works is remembered", async () => {
            scene = await openPresignedScene(startS3rver, () => ({ completePaths: ["unstable"] }));
            const { media } = await arrives();
            await scene.photo(media, someBytes(100));
            expect(scene.outcomes()).to.deep.equal(["complete 404", "complete 200", "complete 200"]);
        });

        it("a homeserver without any /complete gets the file itself", async () => {
            scene = await openPresignedScene(startS3rver, () => ({ completePaths: [] }));
            await arrives({ maxAttempts: 1 });
            expect(scene.outcomes()).to.deep.equal(["complete 404", "complete 404", "upload 200"]);
        });

        it("POST where the homeserver says so", async () => {
            scene = await openPresignedScene(startS3rver, () => ({ method: "POST" }));
            const methods: (string | undefined)[] = [];
            scene.storage.gate.fault = (request, response) => {
                if (request.method !== "POST") return false;
                methods.push(request.method);
                request.resume();
                response.writeHead(403).end();
                return true;
            };
            await arrives();
            expect(methods).to.deep.equal(["POST"]);
        });
    });

    describe("between the storage and the homeserver", () => {
        beforeEach(async () => {
            scene = await openPresignedScene(startS3rver);
        });

        it("a stop repeats only /complete: no byte is read or sent again", async () => {
            const { world, remote, alice, roomId } = scene;
            let asked = 0;
            const stop = world.homeserver.intercept((request) => {
                if (!isComplete(request)) return undefined;
                asked++;
                return { drop: "before" };
            });
            const media = world.component();
            await media.start();
            const bytes = someBytes(200_000);
            const url = remote.file(bytes);
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            const { mxc = "", jobId = "" } = { mxc: sent.uploads[0]?.contentUri, jobId: sent.uploads[0]?.jobId };
            sent.uploads[0]?.done.catch(() => {});
            await until(() => asked > 0);
            await media.close();
            stop();
            const again = world.component();
            await again.start();
            await until(() => world.homeserver.media(mxc));
            const job = await until(async () => {
                for await (const info of again.jobs({ state: "done" })) if (info.id === jobId) return info;
                return undefined;
            });
            expect(job.size).to.equal(bytes.length);
            await scene.expectContent({ url, mxc, job }, bytes);
            expect(scene.storage.gate.puts).to.have.length(1);
            expect(gets(scene, url)).to.equal(1);
        });

        it("a homeserver in trouble is told as soon as it can hear", async () => {
            let left = 3;
            scene.world.homeserver.intercept((request) =>
                isComplete(request) && left-- > 0 ? { status: 503, body: {} } : undefined,
            );
            const { url } = await arrives({ maxAttempts: 2 });
            expect(scene.outcomes()).to.deep.equal(["complete 503", "complete 503", "complete 503", "complete 200"]);
            expect(scene.storage.gate.puts).to.have.length(1);
            expect(gets(scene, url)).to.equal(1);
        });

        it("whoever shares the file of one that is cancelled then does not write over it in the storage", async () => {
            const { world, remote, alice, roomId } = scene;
            let told = 0;
            world.homeserver.intercept((request) => {
                if (!isComplete(request)) return undefined;
                // It has heard of it, and nobody hears that.
                return told++ === 0 ? { drop: "after" } : { status: 503, body: {} };
            });
            const media = world.component();
            await media.start();
            const bytes = someBytes(200_000);
            const source = { kind: "http", url: remote.file(bytes) } as const;
            const photo = () => media.send(photoMessage(roomId, alice, source, {}, { dedupeKey: "photo" }));
            const [first] = (await photo()).uploads;
            first?.done.catch(() => {});
            await until(() => world.homeserver.media(first?.contentUri ?? ""));
            const second = await photo();
            const [upload] = second.uploads;
            expect(upload?.contentUri).to.equal(first?.contentUri);
            await media.cancel(first?.jobId ?? "");
            const job = await upload?.done;
            expect(job?.state).to.equal("done");
            await scene.expectContent({ url: source.url, mxc: job?.contentUri ?? "", job: job as JobInfo }, bytes);
            expect(scene.storage.gate.puts).to.have.length(1);
            expect(scene.outcomes().at(-1), "it has the file").to.equal("upload 409");
        });

        it("an answer that was lost is settled by a download that does not wait", async () => {
            let left = 1;
            scene.world.homeserver.intercept((request) =>
                isComplete(request) && left-- > 0 ? { drop: "after" } : undefined,
            );
            const { url } = await arrives();
            // 409: it has content.
            expect(scene.outcomes().at(-1)).to.equal("complete 409");
            expect(scene.storage.gate.puts).to.have.length(1);
            expect(gets(scene, url)).to.equal(1);
        });

        it("an object that the storage has lost is transferred anew, to the homeserver", async () => {
            scene.world.homeserver.intercept((request) => {
                if (!isComplete(request)) return undefined;
                const mediaId = request.path.split("/").at(-2) ?? "";
                void scene.storage.remove(mediaId);
                return { delayMs: 300 };
            });
            const { url } = await arrives({ maxAttempts: 1 });
            expect(scene.outcomes()).to.deep.equal(["complete 404", "upload 200"]);
            expect(gets(scene, url)).to.equal(2);
        });

        for (const status of [400, 403, 422]) {
            it(`a homeserver that does not take the object (${status}) gets the file`, async () => {
                scene.world.homeserver.intercept((request) =>
                    isComplete(request) ? { status, body: { errcode: "M_UNKNOWN" } } : undefined,
                );
                await arrives({ maxAttempts: 1 });
                expect(scene.outcomes()).to.deep.equal([`complete ${status}`, "upload 200"]);
            });
        }

        it("a file that a proxy lets nobody ask for, and of which the homeserver knows nothing, goes to the homeserver", async () => {
            const { world, remote, alice, roomId } = scene;
            const stop = world.homeserver.intercept((request) => {
                if (request.path.includes("/download/"))
                    return { status: 403, body: "<html>Forbidden</html>", headers: { "content-type": "text/html" } };
                return isComplete(request) ? { status: 404, body: { errcode: "M_NOT_FOUND" } } : undefined;
            });
            const media = world.component({ maxAttempts: 2 });
            await media.start();
            const bytes = someBytes(3000);
            const url = remote.file(bytes);
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            const job = await sent.uploads[0]?.done;
            stop();
            expect(scene.outcomes()).to.deep.equal(["complete 404", "complete 404", "upload 200"]);
            await scene.expectContent({ url, mxc: job?.contentUri ?? "", job: job as JobInfo }, bytes);
        });

        it("an address that is gone is replaced three times, then the job ends as RESERVATION_GONE", async () => {
            const gone = { status: 404, body: { errcode: "M_NOT_FOUND" } };
            scene.world.homeserver.intercept((request) =>
                isComplete(request) || request.path.includes("/download/") ? gone : undefined,
            );
            const { world, remote, alice, roomId } = scene;
            const media = world.component();
            await media.start();
            const url = remote.file(someBytes(100));
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
            expect(error).to.include({ code: "RESERVATION_GONE" });
            expect(scene.outcomes()).to.deep.equal(Array.from({ length: 4 }, () => "complete 404"));
        });

        it("so does one that is gone when the homeserver's own upload is tried", async () => {
            scene.storage.gate.fault = (request, response) => {
                if (request.method !== "PUT") return false;
                response.writeHead(403).end();
                return true;
            };
            scene.world.homeserver.intercept(({ method, path }) =>
                method === "PUT" && path.includes("/upload/")
                    ? { status: 404, body: { errcode: "M_NOT_FOUND" } }
                    : undefined,
            );
            const { world, remote, alice, roomId } = scene;
            const media = world.component();
            await media.start();
            const url = remote.file(someBytes(100));
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
            expect(error).to.include({ code: "RESERVATION_GONE" });
        });
    });
});
