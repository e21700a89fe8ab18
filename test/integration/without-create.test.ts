import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { expect } from "chai";
import { deferred } from "../../src/deferred.ts";
import type { BridgeMedia, JobInfo, MediaError } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { bodies, download, edits, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const BYTES = someBytes(5000);
const codeOf = ({ code }: MediaError): string => code;

describe("on a homeserver without /create", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene({ features: { create: false } }));
    });
    afterEach(() => closeScene({ world, remote }));

    const isUpload = ({ method, path }: { method: string; path: string }): boolean =>
        method === "POST" && path.endsWith("/upload");
    const uploads = (): number => world.homeserver.requests.filter(isUpload).length;
    const jobs = async (media: BridgeMedia): Promise<JobInfo[]> => {
        const all: JobInfo[] = [];
        for await (const job of media.jobs()) all.push(job);
        return all;
    };
    /** A file that is asked for, and not given. */
    const hanging = (path: string): { url: string; asked: Promise<ServerResponse> } => {
        const asked = deferred<ServerResponse>();
        return { url: remote.on(path, (_request, response) => asked.resolve(response)), asked: asked.promise };
    };
    const busy = (path: string): string =>
        remote.on(path, (_request, response) => response.writeHead(429, { "retry-after": "3600" }).end());

    describe("an upload without a message", () => {
        it("that close() cuts off goes on at the next start, with the bytes that were handed over", async () => {
            const media = world.component();
            await media.start();
            const stop = world.homeserver.intercept((request) =>
                isUpload(request) ? { status: 503, body: {} } : undefined,
            );
            const upload = media.upload({ kind: "buffer", data: BYTES }, { userId: alice }).catch(codeOf);
            const [job] = await until(async () => {
                const found = await jobs(media);
                return found[0]?.error === undefined ? undefined : found;
            });
            await media.close();
            expect(await upload).to.equal("CLOSED");
            stop();

            const next = world.component();
            await next.start();
            const done = await until(async () => (await jobs(next)).find(({ state }) => state === "done"));
            expect(done.id).to.equal(job?.id);
            expect((await download(world.homeserver, done.contentUri ?? "")).body.equals(BYTES)).to.equal(true);
        });

        it("so do those that wait for another with the same file", async () => {
            const media = world.component();
            await media.start();
            const file = hanging("/held");
            const given = [
                { kind: "http", url: file.url },
                { userId: alice, dedupeKey: "one" },
            ] as const;
            const all = Array.from({ length: 4 }, () => media.upload(...given).catch(codeOf));
            await file.asked;
            await media.close();
            expect(await Promise.all(all)).to.deep.equal(["CLOSED", "CLOSED", "CLOSED", "CLOSED"]);
            remote.on("/held", (_request, response) => response.end(BYTES));
            const next = world.component();
            await next.start();
            await until(async () => (await jobs(next)).filter(({ state }) => state === "done").length === 4);
        });

        it("shares its file with one that is called for at the same time", async () => {
            const media = world.component();
            await media.start();
            const given = [
                { kind: "http", url: remote.file(BYTES) },
                { userId: alice, dedupeKey: "one" },
            ] as const;
            const both = await Promise.all([media.upload(...given), media.upload(...given)]);
            expect(new Set(both.map(({ contentUri }) => contentUri)).size).to.equal(1);
            expect((await Promise.all(both.map(({ done }) => done))).map(({ state }) => state)).to.deep.equal([
                "done",
                "done",
            ]);
            expect(uploads()).to.equal(1);
        });

        it("that fails is counted out once, and may be retried with the bytes that were handed over", async () => {
            const media = world.component({ maxPendingJobs: 1 });
            await media.start();
            const stop = world.homeserver.intercept((request) =>
                isUpload(request) ? { status: 400, body: { errcode: "M_UNKNOWN" } } : undefined,
            );
            for (let count = 0; count < 3; count++) {
                const failed = media.upload({ kind: "buffer", data: BYTES }, { userId: alice });
                expect(await failed.catch(codeOf)).to.equal("UPLOAD_REFUSED");
            }
            stop();
            const [job] = await jobs(media);
            await media.retry(job?.id ?? "");
            await until(async () => (await jobs(media)).find(({ state }) => state === "done"));
            const file = hanging("/held");
            const first = media.upload({ kind: "http", url: file.url }, { userId: alice }).catch(codeOf);
            await file.asked;
            const second = media.upload({ kind: "http", url: remote.file(BYTES) }, { userId: alice });
            expect(await second.catch(codeOf)).to.equal("BACKLOG_FULL");
            await media.close();
            expect(await first).to.equal("CLOSED");
        });
    });

    it("a ghost that the homeserver does not know yet may upload", async () => {
        const media = world.component();
        await media.start();
        const [writer, loner] = [world.ghost("writer"), world.ghost("loner")];
        const source = { kind: "http", url: remote.file(BYTES) } as const;
        const sent = await media.send(photoMessage(roomId, writer, source));
        const { contentUri } = await media.upload(source, { userId: loner });
        for (const uri of [sent.uploads[0]?.contentUri ?? "", contentUri])
            expect((await download(world.homeserver, uri)).body.equals(BYTES)).to.equal(true);
        const registered = () => world.homeserver.requests.filter(({ path }) => path.endsWith("/register")).length;
        const before = registered();
        await media.upload(source, { userId: loner });
        await media.send(photoMessage(roomId, writer, source));
        expect(registered()).to.equal(before);
    });

    it("a picture whose file close() cuts off is set by the next start, and another may follow", async () => {
        const media = world.component();
        await media.start();
        const file = hanging("/picture");
        const first = media.avatar(alice, { kind: "http", url: file.url }).catch(codeOf);
        await file.asked;
        await media.close();
        expect(await first).to.equal("CLOSED");
        remote.on("/picture", (_request, response) => response.end(BYTES));
        const next = world.component();
        await next.start();
        const shown = () =>
            world.request(alice, "GET", `/profile/${encodeURIComponent(alice)}/avatar_url`).then(
                (answer) => answer["avatar_url"] as string | undefined,
                () => undefined,
            );
        expect((await download(world.homeserver, await until(shown))).body.equals(BYTES)).to.equal(true);
        const other = await next.avatar(alice, { kind: "buffer", data: someBytes(10) });
        expect(await shown()).to.equal(other);
    });

    describe("a message that is withdrawn while it waits", () => {
        const withdrawn = async (media: BridgeMedia, id: string, sending: Promise<unknown>): Promise<void> => {
            await media.cancelMessage(id);
            expect(await sending).to.equal("CANCELLED");
            await media.send(textMessage(roomId, alice, "after it"));
            expect(bodies(world.homeserver, roomId)).to.deep.equal(["after it"]);
        };

        it("for the bytes of its file", async () => {
            const media = world.component();
            await media.start();
            const file = hanging("/held");
            const photo = photoMessage(roomId, alice, { kind: "http", url: file.url });
            const sending = media.send(photo).catch(codeOf);
            await file.asked;
            await withdrawn(media, photo.id, sending);
            expect((await jobs(media)).map(({ state }) => state)).to.deep.equal(["cancelled"]);
        });

        it("for another try, an hour away", async () => {
            const media = world.component();
            await media.start();
            const photo = photoMessage(roomId, alice, { kind: "http", url: busy("/busy") });
            const sending = media.send(photo).catch(codeOf);
            await until(async () => (await jobs(media))[0]?.error);
            await withdrawn(media, photo.id, sending);
        });

        it("for another message's upload of the same file, which goes on", async () => {
            const media = world.component();
            await media.start();
            const file = hanging("/held");
            const photoIn = (room: string) =>
                photoMessage(room, alice, { kind: "http", url: file.url }, {}, { dedupeKey: "one" });
            const [first, photo] = [photoIn(await world.room(alice)), photoIn(roomId)];
            const other = media.send(first);
            const response = await file.asked;
            const sending = media.send(photo).catch(codeOf);
            await until(async () => (await jobs(media)).length === 2);
            await withdrawn(media, photo.id, sending);
            response.end(BYTES);
            expect((await other).uploads[0]?.contentUri).to.match(/^mxc:/);
        });
    });

    it("a file that is cancelled between two tries is waited for no longer: its event says that it does not come", async () => {
        const media = world.component();
        await media.start();
        const sending = media.send(photoMessage(roomId, alice, { kind: "http", url: busy("/busy") }));
        const job = await until(async () => (await jobs(media)).find(({ error }) => error !== undefined));
        await media.cancel(job.id);
        await sending;
        expect(bodies(world.homeserver, roomId)).to.have.length(1);
        expect(bodies(world.homeserver, roomId)[0]).to.contain("could not be bridged");
    });

    it("a file that is tried again has nothing to show until it is there, also when its message is edited", async () => {
        const media = world.component();
        await media.start();
        const url = `${remote.url}/late`;
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const { asked } = hanging("/late");
        await media.retry(sent.uploads[0]?.jobId ?? "");
        const response = await asked;
        const content = { msgtype: "m.image", body: "two", filename: "cat.jpg" };
        await media.edit(sent.id, { id: "edit", content });
        expect(edits(world.homeserver, roomId).get(sent.eventId)).to.include({ msgtype: "m.notice" });
        response.end(BYTES);
        const shown = await until(() => {
            const edit = edits(world.homeserver, roomId).get(sent.eventId);
            return edit?.["msgtype"] === "m.image" ? edit : undefined;
        });
        expect(shown["url"]).to.match(/^mxc:/);
    });

    for (const what of ["keep", "leave as it is"] as const)
        it(`a file that failed has no address to ${what}: it is told`, async () => {
            let isAsked = what === "keep";
            const undecided = (): undefined => {
                isAsked = true;
            };
            const onFailure = what === "keep" ? what : undecided;
            const media = world.component({ onFailure, failureTexts: { default: "{name} fehlt" } });
            await media.start();
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url: `${remote.url}/gone` }));
            await sent.uploads[0]?.done.catch(() => {});
            await until(() => isAsked);
            for (const body of ["after", "later"]) await media.send(textMessage(roomId, alice, body));
            expect(messages(world.homeserver, roomId).map(({ content }) => content)).to.deep.equal(
                ["cat.jpg fehlt", "after", "later"].map((body, index) => ({
                    msgtype: index === 0 ? "m.notice" : "m.text",
                    body,
                })),
            );
        });
});

describe("the end of an upload", () => {
    it("that is first asked for while all is closing is CLOSED", async () => {
        const { world, remote, alice } = await openScene();
        let asked: Promise<unknown> | undefined;
        let ask = (): Promise<unknown> => Promise.resolve();
        class Store extends LevelStore {
            override close(): Promise<void> {
                asked = ask();
                return super.close();
            }
        }
        const media = world.component({ store: (directory) => new Store(directory) });
        await media.start();
        const url = remote.on("/held", () => {});
        const upload = await media.upload({ kind: "http", url }, { userId: alice });
        ask = () => upload.done.catch(codeOf);
        await media.close();
        expect(await Promise.race([asked, once(AbortSignal.timeout(2000), "abort")])).to.equal("CLOSED");
        await closeScene({ world, remote });
    });
});
