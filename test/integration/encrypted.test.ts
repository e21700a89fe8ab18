import { readdir, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { expect } from "chai";
import { Registry } from "prom-client";
import { deferred } from "../../src/deferred.ts";
import type { JobInfo, MediaError } from "../../src/index.ts";
import { BridgeMedia, type BridgeMediaOptions, type CryptoLike } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { decrypted, readable, standInCrypto, type StandIn, withCrypto } from "../support/crypto.ts";
import { bodies, download, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const STRATEGIES = ["spool", "two-pass"] as const;

describe("in an encrypted room", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let crypto = {} as StandIn;
    let open: BridgeMedia[] = [];

    async function scene(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene(options));
        crypto = standInCrypto(roomId);
    }
    beforeEach(() => scene());
    afterEach(async () => {
        for (const media of open.splice(0)) await media.close();
        await closeScene({ world, remote });
    });

    async function started(
        options: Partial<BridgeMediaOptions> = {},
        given: () => CryptoLike | undefined = () => crypto,
    ): Promise<BridgeMedia> {
        const { bridge, dataDir } = world;
        const media = new BridgeMedia(withCrypto(bridge, given), { dataDir, allowPrivateAddresses: true, ...options });
        open.push(media);
        await media.start();
        return media;
    }

    async function restarted(media: BridgeMedia, options: Partial<BridgeMediaOptions> = {}): Promise<BridgeMedia> {
        await media.close();
        open = open.filter((other) => other !== media);
        return started(options);
    }

    /** The file of the event as a member reads it, downloaded and decrypted. */
    async function fileOf(eventId: string, place: readonly string[] = ["file"]): Promise<Buffer> {
        const event = await until(() => readable(world.homeserver, roomId).find(({ id }) => id === eventId));
        const file = place.reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], event.content);
        const { url } = file as { url: string };
        await until(() => world.homeserver.media(url), { what: url });
        return decrypted((await download(world.homeserver, url)).body, file);
    }

    const puts = () =>
        world.homeserver.requests.filter(({ method, path }) => method === "PUT" && path.includes("/upload/"));
    const nothingInTheClear = () => expect(messages(world.homeserver, roomId)).to.deep.equal([]);
    const http = (url: string) => ({ kind: "http", url }) as const;

    /** Everything the journal holds. */
    async function journal(): Promise<string> {
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        const found: unknown[] = [];
        for (const collection of ["message", "job", "outbox", "revise"]) {
            for await (const entry of store.range({ collection })) found.push(entry);
        }
        await store.close();
        return JSON.stringify(found);
    }

    it("shares no file with a plain room, also where crypto comes only after the message was journaled", async () => {
        let isThere = false;
        const media = await started({}, () => (isThere ? crypto : undefined));
        const plainRoom = await world.room(alice);
        const bytes = someBytes(5000);
        const sticker = (room: string, dedupeKey: string, encrypted?: boolean) =>
            media.send(
                photoMessage(room, alice, http(remote.file(bytes)), {
                    media: [{ at: ["url"], source: http(remote.file(bytes)), dedupeKey }],
                    ...(encrypted !== undefined && { encrypted }),
                }),
            );
        const plain = async (dedupeKey: string) => {
            const sent = await sticker(plainRoom, dedupeKey, false);
            await sent.uploads[0]?.done;
            const { contentUri = "" } = sent.uploads[0] ?? {};
            expect((await download(world.homeserver, contentUri)).body.equals(bytes)).to.equal(true);
            return contentUri;
        };
        // Its job takes part in sharing before anybody can know that it has to be encrypted.
        media.on("job", () => (isThere = true));
        const late = await sticker(roomId, "late");
        expect((await fileOf(late.eventId)).equals(bytes)).to.equal(true);
        expect(await plain("late")).not.to.equal(late.uploads[0]?.contentUri);

        const shared = await plain("early");
        expect(await plain("early")).to.equal(shared);
        const early = await sticker(roomId, "early");
        expect(early.uploads[0]?.contentUri).not.to.equal(shared);
        expect((await fileOf(early.eventId)).equals(bytes)).to.equal(true);
        nothingInTheClear();
    });

    for (const encryption of STRATEGIES) {
        describe(encryption, () => {
            it("files of all lengths decrypt to what they were, and the homeserver knows nothing of them", async () => {
                const media = await started({ encryption });
                for (const size of [0, 1, 15, 16, 17, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1_500_001]) {
                    const bytes = someBytes(size);
                    // A picture of no bytes would be refused.
                    const content = { msgtype: "m.file", body: "cat.jpg" };
                    const sent = await media.send(photoMessage(roomId, alice, http(remote.file(bytes)), { content }));
                    const info = await sent.uploads[0]?.done;
                    expect(info?.size).to.equal(size);
                    expect((await fileOf(sent.eventId)).equals(bytes), String(size)).to.equal(true);
                }
                for (const { content } of readable(world.homeserver, roomId)) {
                    expect(content).not.to.have.property("url");
                    const { url = "", ...file } = content["file"] as { url?: string };
                    expect(file).to.have.all.keys("v", "key", "iv", "hashes");
                    expect(Buffer.from((file as unknown as { iv: string }).iv, "base64").subarray(8)).to.deep.equal(
                        Buffer.alloc(8),
                    );
                    const stored = world.homeserver.media(url);
                    expect(stored?.contentType).to.equal("application/octet-stream");
                    expect(stored?.filename).to.equal(undefined);
                }
                nothingInTheClear();
                expect(JSON.stringify(world.homeserver.events(roomId))).not.to.contain("cat.jpg");
            });

            it("keeps the checksum given with it, which is that of the file and not of what is uploaded", async () => {
                const media = await started({ encryption, maxAttempts: 1 });
                const bytes = someBytes(50_000);
                const url = remote.file(bytes);
                const right = await media.send(photoMessage(roomId, alice, http(url), {}, { sha256: sha256(bytes) }));
                await right.uploads[0]?.done;
                expect((await fileOf(right.eventId)).equals(bytes)).to.equal(true);
                const before = puts().length;
                const sha256OfOther = sha256(someBytes(1));
                const wrong = await media.send(photoMessage(roomId, alice, http(url), {}, { sha256: sha256OfOther }));
                const error = await wrong.uploads[0]?.done.catch((thrown: MediaError) => thrown);
                expect(error).to.include({ code: "SOURCE_CHECKSUM_MISMATCH" });
                expect(puts()).to.have.length(before);
            });

            it("a source without a length, and bytes handed over", async () => {
                const media = await started({ encryption });
                const bytes = someBytes(300_000);
                const url = remote.on("/chunked", (_request, response) => void response.writeHead(200).end(bytes));
                const chunked = await media.send(photoMessage(roomId, alice, http(url)));
                const handed = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: bytes }));
                expect((await fileOf(chunked.eventId)).equals(bytes)).to.equal(true);
                expect((await fileOf(handed.eventId)).equals(bytes)).to.equal(true);
                await Promise.all([chunked.uploads[0]?.done, handed.uploads[0]?.done]);
                await until(async () => (await readdir(join(world.dataDir, "spool"))).length === 0);
            });

            it("thumbnails are encrypted with keys of their own; one that is gone goes, its picture stays", async () => {
                const media = await started({ encryption });
                const [picture, small] = [someBytes(70_000), someBytes(3000)];
                const thumbnail = (url: string) => ({ at: ["info", "thumbnail_url"], source: http(url) });
                const sent = await media.send(
                    photoMessage(roomId, alice, http(remote.file(picture)), {
                        media: [{ at: ["file"], source: http(remote.file(picture)) }, thumbnail(remote.file(small))],
                    }),
                );
                expect((await fileOf(sent.eventId)).equals(picture)).to.equal(true);
                expect((await fileOf(sent.eventId, ["info", "thumbnail_file"])).equals(small)).to.equal(true);
                const without = await media.send(
                    photoMessage(roomId, alice, http(remote.file(picture)), {
                        media: [{ at: ["url"], source: http(remote.file(picture)) }, thumbnail(`${remote.url}/gone`)],
                    }),
                );
                expect((await fileOf(without.eventId)).equals(picture)).to.equal(true);
                const shown = readable(world.homeserver, roomId).at(-1)?.content;
                expect(shown?.["info"]).to.deep.equal({ mimetype: "image/jpeg" });
                nothingInTheClear();
            });

            it("what a probe finds is said alike, whichever way the file's place is given", async () => {
                const media = await started({ encryption });
                const bytes = someBytes(5000);
                const url = remote.on("/cat.jpg", (_request, response) => {
                    const headers = { "content-length": bytes.length, "content-type": "image/jpeg" };
                    response.writeHead(200, headers).end(bytes);
                });
                for (const at of [["url"], ["file"]]) {
                    const item = { at, source: http(url), probeHeaders: true };
                    const sent = await media.send(
                        photoMessage(roomId, alice, item.source, { content: {}, media: [item] }),
                    );
                    expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
                    const { file: _, ...said } = readable(world.homeserver, roomId).at(-1)?.content ?? {};
                    const info = { mimetype: "image/jpeg", size: bytes.length };
                    expect(said, at.join()).to.deep.equal({ msgtype: "m.image", body: "cat.jpg", info });
                }
                nothingInTheClear();
            });

            it("a source that is gone is told at once, by an encrypted notice", async () => {
                const media = await started({ encryption });
                const sent = await media.send(photoMessage(roomId, alice, http(`${remote.url}/gone`)));
                const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
                expect(error).to.include({ code: "SOURCE_NOT_FOUND" });
                const shown = readable(world.homeserver, roomId).at(-1)?.content;
                expect(shown).to.include({ msgtype: "m.notice" });
                nothingInTheClear();
                // And is shown after all once retry() has got it.
                const bytes = someBytes(999);
                remote.on("/gone", (_request, response) => void response.writeHead(200).end(bytes));
                await media.retry(sent.uploads[0]?.jobId ?? "");
                await until(() => readable(world.homeserver, roomId).at(-1)?.content["msgtype"] === "m.image");
                expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
                nothingInTheClear();
            });

            for (const onFailure of ["keep", async () => undefined] as const)
                it(`one that is gone before its event has nothing to ${onFailure === "keep" ? "keep" : "leave as it is"}: it is told`, async () => {
                    const media = await started({ encryption, onFailure });
                    const sent = await media.send(photoMessage(roomId, alice, http(`${remote.url}/gone`)));
                    await sent.uploads[0]?.done.catch(() => {});
                    for (const body of ["after", "later"]) await media.send(textMessage(roomId, alice, body));
                    const [shown, ...others] = readable(world.homeserver, roomId).map((event) => event.content);
                    expect(shown).to.include({ msgtype: "m.notice" });
                    expect(others.map(({ body }) => body)).to.deep.equal(["after", "later"]);
                    const bytes = someBytes(999);
                    remote.on("/gone", (_request, response) => void response.end(bytes));
                    await media.retry(sent.uploads[0]?.jobId ?? "");
                    await until(() => readable(world.homeserver, roomId)[0]?.content["msgtype"] === "m.image");
                    expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
                });

            it("one that is tried again while its message stands in line loses no address", async () => {
                const media = await started({ encryption });
                const bytes = [someBytes(7000), someBytes(300)] as const;
                const held: (() => void)[] = [];
                let isThere = false;
                let isHeld = true;
                const give = (response: ServerResponse, file: Buffer): void => {
                    if (isHeld) held.push(() => void response.end(file));
                    else response.end(file);
                };
                remote.on("/late", (_request, response) =>
                    isThere ? give(response, bytes[0]) : void response.writeHead(404).end(),
                );
                remote.on("/thumbnail", (_request, response) => give(response, bytes[1]));
                const told: JobInfo[] = [];
                media.on("job", (job) => void told.push(job));
                const main = () => told.findLast((job) => job.at?.[0] === "url");
                const sending = media.send(
                    photoMessage(roomId, alice, http(""), {
                        media: [
                            { at: ["url"], source: http(`${remote.url}/late`) },
                            { at: ["info", "thumbnail_url"], source: http(`${remote.url}/thumbnail`) },
                        ],
                    }),
                );
                await until(() => main()?.state === "failed" && held.length === 1, { what: "a failure" });
                isThere = true;
                const before = told.length;
                await media.retry(main()?.id ?? "");
                // The queue is about it when its message goes on.
                await until(() => held.length === 2, { what: "another try" });
                held[0]?.();
                const sent = await sending;
                isHeld = false;
                held[1]?.();
                await until(() => main()?.state === "done");
                // What it was given once, nobody else fills.
                const own = told.slice(before).filter((job) => job.id === main()?.id);
                const uris = new Set(own.flatMap(({ contentUri }) => contentUri ?? []));
                expect(uris).to.deep.equal(new Set([main()?.contentUri]));
                await until(() => readable(world.homeserver, roomId).at(-1)?.content["file"] !== undefined);
                const file = readable(world.homeserver, roomId).at(-1)?.content["file"] as { url: string };
                const { body } = await download(world.homeserver, file.url);
                expect((await decrypted(body, file)).equals(bytes[0])).to.equal(true);
                expect(sent.uploads).to.have.length(2);
                nothingInTheClear();
            });

            it("one that is tried again while its message stands in line is fetched once after a restart", async () => {
                let media = await started({ encryption });
                const bytes = [someBytes(7000), someBytes(300)] as const;
                const held: (() => void)[] = [];
                let isThere = false;
                remote.on("/late", (_request, response) => {
                    if (isThere) held.push(() => void response.end(bytes[0]));
                    else response.writeHead(404).end();
                });
                remote.on("/thumbnail", (_request, response) => void held.push(() => response.end(bytes[1])));
                const message = photoMessage(roomId, alice, http(""), {
                    media: [
                        { at: ["url"], source: http(`${remote.url}/late`) },
                        { at: ["info", "thumbnail_url"], source: http(`${remote.url}/thumbnail`) },
                    ],
                });
                let main: JobInfo | undefined;
                media.on("job", (job) => (main = job.at?.[0] === "url" ? job : main));
                media.send(message).catch(() => {});
                await until(() => main?.state === "failed" && held.length === 1, { what: "a failure" });
                isThere = true;
                await media.retry(main?.id ?? "");
                await until(() => held.length === 2, { what: "another try" });
                await media.close();
                held.splice(0);
                const before = remote.requests.length;
                const looks = () => world.homeserver.requests.filter(({ path }) => path.includes("/messages")).length;
                const looksBefore = looks();
                media = await restarted(media, { encryption });
                // The queue has it in its list, and its message's lane waits for it.
                await until(() => held.length > 0 && looks() > looksBefore);
                await media.send(textMessage(await world.room(alice), alice, "elsewhere"));
                const sending = media.send(message);
                const tries = () => remote.requests.slice(before).filter(({ url }) => url === "/late").length;
                expect(tries()).to.equal(1);
                const letGo = setInterval(() => {
                    for (const go of held.splice(0)) go();
                }, 5);
                const { eventId } = await sending;
                await until(() =>
                    readable(world.homeserver, roomId).some(({ content }) => content["file"] !== undefined),
                );
                clearInterval(letGo);
                expect(tries(), "in two passes the upload reads it again").to.equal(encryption === "spool" ? 1 : 2);
                expect((await fileOf(eventId)).equals(bytes[0])).to.equal(true);
                nothingInTheClear();
            });

            it("stopped between preparation and event, it is not prepared twice", async () => {
                const refuse = world.homeserver.intercept(({ path }) =>
                    path.includes("/send/") ? { status: 503 } : undefined,
                );
                const first = await started({ encryption });
                const bytes = someBytes(80_000);
                const sending = first.send(photoMessage(roomId, alice, http(remote.file(bytes)), { id: "p" }));
                sending.catch(() => {});
                await until(() => world.homeserver.requests.some(({ path }) => path.includes("/send/")));
                expect(remote.requests).to.have.length(1);
                expect(puts().filter(({ path }) => path.includes("/upload/"))).to.have.length(0);
                refuse();
                await first.close();
                open = [];
                const before = await journal();
                const secret = /"k":"([\w-]+)"/.exec(before)?.[1];
                const media = await started({ encryption });
                const sent = await media.send(photoMessage(roomId, alice, http(remote.file(bytes)), { id: "p" }));
                await sent.uploads[0]?.done;
                expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
                expect(remote.requests).to.have.length(encryption === "spool" ? 1 : 2);
                expect(JSON.stringify(readable(world.homeserver, roomId)[0]?.content)).to.contain(secret);
                expect(readable(world.homeserver, roomId)).to.have.length(1);
                nothingInTheClear();
            });

            it("stopped between event and upload, it uploads what the event says", async () => {
                const refuse = world.homeserver.intercept(({ path, method }) =>
                    method === "PUT" && path.includes("/upload/") ? { status: 503 } : undefined,
                );
                const first = await started({ encryption });
                const bytes = someBytes(80_000);
                const sent = await first.send(photoMessage(roomId, alice, http(remote.file(bytes))));
                await until(() => puts().length > 0);
                refuse();
                await restarted(first, { encryption });
                expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
                expect(messages(world.homeserver, roomId)).to.have.length(0);
                expect(
                    world.homeserver.events(roomId).filter(({ type }) => type === "m.room.encrypted"),
                ).to.have.length(1);
            });

            it("forgets the keys when nothing can need them any more, and says them nowhere", async () => {
                const said: unknown[] = [];
                const note = (...given: unknown[]): void => void said.push(given);
                const logger = { debug: note, info: note, warn: note, error: note };
                const media = await started({ encryption, logger });
                media.on("job", (job: JobInfo) => said.push(job));
                const gone = { at: ["info", "thumbnail_url"], source: http(`${remote.url}/late`) };
                const sent = await media.send(
                    photoMessage(roomId, alice, http(remote.file(someBytes(5000))), {
                        media: [{ at: ["url"], source: http(remote.file(someBytes(5000))) }, gone],
                    }),
                );
                await sent.uploads[0]?.done;
                await media.close();
                const secret = /"k":"([\w-]+)"/.exec(JSON.stringify(readable(world.homeserver, roomId)))?.[1] ?? "";
                expect(secret).to.have.length(43);
                // A thumbnail that may be retried needs an edit that shows the picture's key.
                expect(await journal()).to.contain(secret);
                const again = await started({ encryption, logger });
                const thumbnail = someBytes(50);
                remote.on("/late", (_request, response) => void response.writeHead(200).end(thumbnail));
                await again.retry(sent.uploads[1]?.jobId ?? "");
                const shown = await until(() =>
                    fileOf(sent.eventId, ["info", "thumbnail_file"]).catch(() => undefined),
                );
                expect(shown.equals(thumbnail)).to.equal(true);
                await again.close();
                const left = await started({ encryption, logger });
                await until(async () => world.homeserver.events(roomId).length > 0);
                await left.close();
                expect(await journal()).not.to.match(/"k":/);
                expect(JSON.stringify(said)).not.to.contain(secret);
            });

            it("without /create the ciphertext goes first", async () => {
                for (const media of open.splice(0)) await media.close();
                await closeScene({ world, remote });
                await scene({ features: { create: false } });
                const media = await started({ encryption });
                const bytes = someBytes(70_000);
                const sent = await media.send(photoMessage(roomId, alice, http(remote.file(bytes))));
                expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
                nothingInTheClear();
            });
        });
    }

    it("a source that changes between the passes is encrypted anew and shown by an edit", async () => {
        const media = await started({ encryption: "two-pass" });
        for (const [before, after] of [
            [someBytes(600_000), someBytes(600_000)],
            [someBytes(100), someBytes(100)],
            [someBytes(100), someBytes(101)],
            [someBytes(600_000), someBytes(5)],
            [Buffer.alloc(0), someBytes(5)],
            [someBytes(5), Buffer.alloc(0)],
        ] as const) {
            for (const announced of [true, false]) {
                let reads = 0;
                const url = remote.on("/changing", (_request, response) => {
                    const bytes = reads++ === 0 ? before : after;
                    response.writeHead(200, announced ? { "content-length": bytes.length } : {}).end(bytes);
                });
                const content = { msgtype: "m.file", body: "changing" };
                const sent = await media.send(photoMessage(roomId, alice, http(url), { content }));
                const done = await sent.uploads[0]?.done;
                const what = `${before.length} → ${after.length}, ${announced ? "announced" : "chunked"}`;
                const bytes = await until(() => fileOf(sent.eventId).catch(() => undefined), { what });
                expect(bytes.equals(after), what).to.equal(true);
                // Seen as other before it was whole, so the address could be kept.
                expect(done?.contentUri).to.equal(sent.uploads[0]?.contentUri);
            }
        }
        nothingInTheClear();
    });

    it("an upload that got through before the source changed is what the event says", async () => {
        const media = await started({ encryption: "two-pass" });
        const bytes = someBytes(50_000);
        let reads = 0;
        const url = remote.on("/changing", (_request, response) => {
            response.writeHead(200).end(reads++ < 2 ? bytes : someBytes(50_000));
        });
        const restore = world.homeserver.intercept(({ path, method }) =>
            method === "PUT" && path.includes("/upload/") ? { drop: "after" } : undefined,
        );
        const sent = await media.send(photoMessage(roomId, alice, http(url)));
        await until(() => world.homeserver.media(sent.uploads[0]?.contentUri ?? ""));
        restore();
        await sent.uploads[0]?.done;
        expect(reads).to.equal(3);
        expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
    });

    it("a file that cannot be prepared leaves its address to the next, and gets another when it comes after all", async () => {
        const media = await started({ reserveAhead: 1 });
        const photo = (url: string) => media.send(photoMessage(roomId, alice, http(url)));
        await (await photo(remote.file(someBytes(100)))).uploads[0]?.done;
        const registry = new Registry();
        media.registerMetrics(registry);
        await until(async () => (await registry.metrics()).includes("bridge_media_reservations 1\n"));
        const isCreate = ({ path }: { path: string }): boolean => path.includes("/media/v1/create");
        const created = world.homeserver.requests.filter(isCreate).length;
        const gone = await photo(`${remote.url}/gone`);
        const [next, later] = [someBytes(200), someBytes(300)];
        const sent = await photo(remote.file(next));
        const sending = world.homeserver.requests.findLastIndex(({ path }) => path.includes("/send/"));
        expect(world.homeserver.requests.slice(0, sending).filter(isCreate)).to.have.length(created);
        remote.on("/gone", (_request, response) => void response.writeHead(200).end(later));
        await media.retry(gone.uploads[0]?.jobId ?? "");
        const shown = () => readable(world.homeserver, roomId).find(({ id }) => id === gone.eventId)?.content;
        await until(() => shown()?.["msgtype"] === "m.image");
        expect((await fileOf(gone.eventId)).equals(later)).to.equal(true);
        expect((await fileOf(sent.eventId)).equals(next)).to.equal(true);
        nothingInTheClear();
    });

    it("with no room in the spool, only the hash is kept, and the source read again for the upload", async () => {
        const media = await started({ maxSpoolBytes: 100_000 });
        const bytes = someBytes(150_000);
        const sent = await media.send(photoMessage(roomId, alice, http(remote.file(bytes))));
        expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
        expect(remote.requests).to.have.length(2);
    });

    it("a half-written ciphertext is swept at the start", async () => {
        const first = await started();
        const url = remote.on("/slow", (_request, response) => {
            response.writeHead(200, { "content-length": 1000 }).write("half");
        });
        first.send(photoMessage(roomId, alice, http(url), { id: "slow" })).catch(() => {});
        const name = await until(async () => (await readdir(join(world.dataDir, "spool")))[0]);
        expect(name).to.match(/\.encrypted$/);
        await first.close();
        // As a kill would have left it.
        await writeFile(join(world.dataDir, "spool", name), "half");
        const bytes = someBytes(1000);
        remote.on("/slow", () => {});
        open = [];
        const media = await started();
        expect(await readdir(join(world.dataDir, "spool"))).to.deep.equal([]);
        await until(() => remote.requests.length === 2);
        remote.on("/slow", (_request, response) => void response.writeHead(200).end(bytes));
        await restarted(media);
        const [event] = await until(() => {
            const events = readable(world.homeserver, roomId);
            return events.length > 0 ? events : undefined;
        });
        expect((await fileOf(event?.id ?? "")).equals(bytes)).to.equal(true);
    });

    it("other rooms go on while a file is read; the room keeps its order", async () => {
        const media = await started();
        const other = await world.room(alice);
        let finish: () => void = () => {};
        const bytes = someBytes(4);
        const url = remote.on("/slow", (_request, response) => {
            response.writeHead(200, { "content-length": bytes.length }).write(bytes.subarray(0, 2));
            finish = () => void response.end(bytes.subarray(2));
        });
        const sends = [
            media.send(photoMessage(roomId, alice, http(url))),
            media.send(textMessage(roomId, alice, "after")),
        ];
        await until(() => remote.requests.length === 1);
        await media.send(textMessage(other, alice, "meanwhile"));
        expect(bodies(world.homeserver, other)).to.deep.equal(["meanwhile"]);
        finish();
        await Promise.all(sends);
        expect(readable(world.homeserver, roomId).map(({ content }) => content["body"])).to.deep.equal([
            "cat.jpg",
            "after",
        ]);
        nothingInTheClear();
    });

    it("a lost answer does not double an event, and replies keep their relation in the clear", async () => {
        const media = await started();
        const relation = { "m.in_reply_to": { event_id: "$other" } };
        const restore = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") ? { drop: "after" } : undefined,
        );
        const content = { msgtype: "m.text", body: "secret words", "m.relates_to": relation };
        const sending = media.send(textMessage(roomId, alice, "", { content }));
        await until(() => world.homeserver.requests.some(({ path }) => path.includes("/messages")));
        restore();
        const { eventId } = await sending;
        const events = world.homeserver.events(roomId).filter(({ type }) => type === "m.room.encrypted");
        expect(events.map(({ event_id }) => event_id)).to.deep.equal([eventId]);
        expect(events[0]?.content["m.relates_to"]).to.deep.equal(relation);
        nothingInTheClear();
    });

    it("a message that the homeserver refuses leaves no key behind", async () => {
        const media = await started();
        world.homeserver.intercept(({ path }) =>
            path.includes("/send/") ? { status: 400, body: { errcode: "M_BAD_JSON" } } : undefined,
        );
        const error = await media
            .send(photoMessage(roomId, alice, http(remote.file(someBytes(10)))))
            .catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "EVENT_REFUSED" });
        await media.close();
        expect(await journal()).not.to.match(/"k":/);
    });

    it("an address that is lost is replaced, and the edit shows the same file at the new one", async () => {
        const media = await started();
        const bytes = someBytes(40_000);
        let lost = true;
        world.homeserver.intercept(({ path, method }) => {
            if (method !== "PUT" || !path.includes("/upload/") || !lost) return undefined;
            lost = false;
            return { status: 404, body: { errcode: "M_NOT_FOUND" } };
        });
        const sent = await media.send(photoMessage(roomId, alice, http(remote.file(bytes))));
        const first = sent.uploads[0]?.contentUri;
        const url = () => (readable(world.homeserver, roomId)[0]?.content["file"] as { url?: string } | undefined)?.url;
        await until(() => url() !== first);
        expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
        expect(remote.requests).to.have.length(1);
        await until(async () => (await readdir(join(world.dataDir, "spool"))).length === 0);
        await media.close();
        expect(await journal()).not.to.match(/"k":/);
        nothingInTheClear();
    });

    it("an edit shows the files again while their keys are there, and is refused afterwards", async () => {
        const media = await started();
        const bytes = someBytes(5000);
        world.homeserver.intercept(({ path, method }) =>
            method === "PUT" && path.includes("/upload/") ? { delayMs: 300 } : undefined,
        );
        const message = photoMessage(roomId, alice, http(remote.file(bytes)));
        const sent = await media.send(message);
        const content = { msgtype: "m.image", filename: "cat.jpg", body: "a caption" };
        await media.edit(message.id, { id: "edit", content });
        expect(readable(world.homeserver, roomId)[0]?.content["body"]).to.equal("a caption");
        expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
        await sent.uploads[0]?.done;
        const late = await until(async () => {
            const edit = media.edit(message.id, { id: `late ${Math.random()}`, content });
            return edit.then(() => undefined).catch((reason: MediaError) => reason);
        });
        expect(late).to.include({ code: "ENCRYPTION_KEYS_GONE" });
        expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
        nothingInTheClear();
    });

    it("an edit shows a picture also after its failed thumbnail was cancelled, until the picture is there", async () => {
        const media = await started({ encryption: "two-pass" });
        const bytes = someBytes(5000);
        const given = deferred<ServerResponse>();
        let [pictures, thumbnails] = [0, 0];
        // Each is read once to be encrypted, before the event.
        const picture = remote.on("/picture", (_request, response) => {
            if (pictures++ === 0) response.end(bytes);
            else given.resolve(response);
        });
        const thumbnail = remote.on("/thumbnail", (_request, response) => {
            response.writeHead(thumbnails++ === 0 ? 200 : 404).end(someBytes(50));
        });
        const content = { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg" } };
        const message = photoMessage(roomId, alice, http(picture), {
            content,
            media: [
                { at: ["url"], source: http(picture) },
                { at: ["info", "thumbnail_url"], source: http(thumbnail) },
            ],
        });
        const sent = await media.send(message);
        const code = (promise: Promise<unknown> | undefined) =>
            promise?.then(
                () => "none",
                (reason: MediaError) => reason.code,
            );
        expect(await code(sent.uploads[1]?.done)).to.equal("SOURCE_NOT_FOUND");
        let edits = 0;
        const edit = () => media.edit(message.id, { id: `${edits++}`, content: { ...content, body: `edit ${edits}` } });
        const shown = () => readable(world.homeserver, roomId)[0]?.content;
        await edit();
        await media.cancel(sent.uploads[1]?.jobId ?? "");
        // Whatever that has set off has come to its end: what is sent last is told last.
        await media.send(textMessage(roomId, alice, "another"));
        await edit();
        expect(shown()).to.include({ body: "edit 2" });
        (await given.promise).end(bytes);
        await sent.uploads[0]?.done;
        expect((await fileOf(sent.eventId)).equals(bytes)).to.equal(true);
        expect(shown()?.["info"]).not.to.have.property("thumbnail_file");
        await until(async () => (await code(edit())) === "ENCRYPTION_KEYS_GONE");
    });

    it("a message is redacted although its keys are forgotten", async () => {
        const media = await started();
        const message = photoMessage(roomId, alice, http(remote.file(someBytes(1000))));
        const sent = await media.send(message);
        await sent.uploads[0]?.done;
        // The keys go with the mark that the file's end has left.
        await until(async () => {
            const edit = media.edit(message.id, {
                id: `edit ${Math.random()}`,
                content: { msgtype: "m.image", body: "x" },
            });
            return edit.then(() => false).catch(({ code }: MediaError) => code === "ENCRYPTION_KEYS_GONE");
        });
        await media.cancelMessage(message.id, { redact: true });
        const redactions = () => world.homeserver.events(roomId).filter(({ type }) => type === "m.room.redaction");
        await until(() => redactions().some(({ redacts }) => redacts === sent.eventId));
    });

    it("a message taken back while its file is read is not sent, and leaves nothing", async () => {
        const media = await started();
        const url = remote.on("/slow", (_request, response) => {
            response.writeHead(200, { "content-length": 1000 }).write("half");
        });
        const message = photoMessage(roomId, alice, http(url));
        const sending = media.send(message).catch((reason: MediaError) => reason);
        await until(() => remote.requests.length === 1);
        await media.cancelMessage(message.id);
        expect(await sending).to.include({ code: "CANCELLED" });
        await media.send(textMessage(roomId, alice, "after"));
        expect(readable(world.homeserver, roomId).map(({ content }) => content["body"])).to.deep.equal(["after"]);
        await until(async () => (await readdir(join(world.dataDir, "spool"))).length === 0);
    });

    it("without crypto a message that has to be encrypted is refused, and nothing is read or sent", async () => {
        const media = await started({}, () => undefined);
        const message = photoMessage(roomId, alice, http(remote.file(someBytes(10))), { encrypted: true });
        const error = await media.send(message).catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "ENCRYPTION_UNAVAILABLE", retryable: false });
        expect(remote.requests).to.have.length(0);
        expect(world.homeserver.requests.filter(({ path }) => path.includes("/send/"))).to.have.length(0);
    });

    it("a crypto that is not prepared yet is waited for; one that never is refuses the message", async () => {
        const media = await started({ maxAttempts: 2 });
        crypto.failures.push(new Error("End-to-end encryption has not initialized"));
        await media.send(textMessage(roomId, alice, "late"));
        expect(readable(world.homeserver, roomId)).to.have.length(1);
        crypto.failures.push(new Error("broken"), new Error("broken"));
        const error = await media.send(textMessage(roomId, alice, "never")).catch((reason: MediaError) => reason);
        expect(error).to.include({ code: "ENCRYPTION_UNAVAILABLE" });
        // Known to be encrypted, and then not to be had.
        for (const broken of [() => Promise.reject(new Error("no session")), () => Promise.resolve({})]) {
            crypto.encryptRoomEvent = broken;
            const last = await media.send(textMessage(roomId, alice, "never")).catch((reason: MediaError) => reason);
            expect(last).to.include({ code: "ENCRYPTION_UNAVAILABLE" });
        }
        expect(readable(world.homeserver, roomId)).to.have.length(1);
        nothingInTheClear();
    });

    it("after a restart, a crypto that was there before is waited for", async () => {
        const refuse = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") ? { status: 503 } : undefined,
        );
        const first = await started();
        first.send(textMessage(roomId, alice, "hello")).catch(() => {});
        await until(() => world.homeserver.requests.some(({ path }) => path.includes("/send/")));
        await first.close();
        open = [];
        refuse();
        let looks = 0;
        await started({}, () => (looks++ < 2 ? undefined : crypto));
        await until(() => readable(world.homeserver, roomId).length === 1);
        nothingInTheClear();
    });

    it("the room's own state is believed where the crypto only could not ask", async () => {
        // A ghost that is not in the room yet: the SDK answers "not encrypted".
        await world.request(world.bot, "PUT", `/rooms/${encodeURIComponent(roomId)}/state/m.room.encryption/`, {
            algorithm: "m.megolm.v1.aes-sha2",
        });
        crypto.rooms.clear();
        const media = await started();
        await media.send(textMessage(roomId, world.ghost("newcomer"), "hello"));
        expect(readable(world.homeserver, roomId)).to.have.length(1);
        nothingInTheClear();
    });

    for (const [status, times] of [
        [400, 1],
        [403, 3],
    ] as const) {
        it(`${times} page(s) with ${status} to the question whether a room is encrypted cost no message`, async () => {
            crypto.rooms.clear();
            const media = await started();
            let asked = 0;
            world.homeserver.intercept(({ path }) =>
                path.includes("/state/m.room.encryption") && asked++ < times
                    ? { status, body: "<html>no</html>", headers: { "content-type": "text/html" } }
                    : undefined,
            );
            const before = world.homeserver.requests.length;
            await media.send(textMessage(roomId, alice, "hello"));
            expect(bodies(world.homeserver, roomId)).to.deep.equal(["hello"]);
            expect(asked).to.equal(times + 1);
            const joins = world.homeserver.requests.slice(before).filter(({ path }) => path.includes("/join"));
            expect(joins, "joins of who is there").to.have.length(0);
        });
    }

    it("a room without encryption is served in the clear, with crypto at hand", async () => {
        crypto.rooms.clear();
        const media = await started();
        const bytes = someBytes(100);
        const sent = await media.send(photoMessage(roomId, alice, http(remote.file(bytes))));
        await sent.uploads[0]?.done;
        expect(messages(world.homeserver, roomId)[0]?.content["url"]).to.equal(sent.uploads[0]?.contentUri);
        const { body } = await download(world.homeserver, sent.uploads[0]?.contentUri ?? "");
        expect(bytes.equals(body)).to.equal(true);
    });
});
