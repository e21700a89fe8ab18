import type { OutgoingHttpHeaders } from "node:http";
import { expect } from "chai";
import type { MediaError } from "../../src/index.ts";
import { bodies, download, edits, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes, startRemote } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { type World } from "../support/world.ts";

describe("a file that cannot come", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    /** Sends one photo whose source must fail, and one that must not be held up by it. */
    async function failing(url: string, options: Parameters<World["component"]>[0] = {}) {
        const media = world.component({ maxAttempts: 2, ...options });
        await media.start();
        const content = {
            msgtype: "m.image",
            body: "Look at <this>!",
            filename: "cat.jpg",
            format: "org.matrix.custom.html",
            formatted_body: "Look at <b>this</b>!",
            info: { mimetype: "image/jpeg" },
        };
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }, { content }));
        const good = await media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(someBytes(5000)) }));
        const error = await sent.uploads[0]?.done.then(
            () => undefined,
            (reason: MediaError) => reason,
        );
        expect((await good.uploads[0]?.done)?.state).to.equal("done");
        return { error, eventId: sent.eventId, media, jobId: sent.uploads[0]?.jobId ?? "" };
    }

    async function notice(eventId: string): Promise<Record<string, unknown>> {
        return until(() => edits(world.homeserver, roomId).get(eventId), { what: "the notice" });
    }

    it("404 ends as SOURCE_NOT_FOUND and an edit that says so and keeps the caption", async () => {
        const { error, eventId } = await failing(`${remote.url}/gone.jpg`);
        expect(error?.code).to.equal("SOURCE_NOT_FOUND");
        const shown = await notice(eventId);
        expect(shown["msgtype"]).to.equal("m.notice");
        expect(shown["body"]).to.equal(
            "cat.jpg could not be bridged: the file is no longer available at its source\n\nLook at <this>!",
        );
        expect(shown["formatted_body"]).to.contain("Look at <b>this</b>!");
        expect(shown).not.to.have.property("url");
    });

    it("a web page where a picture was promised is never uploaded, by its type or by its bytes", async () => {
        const typed = remote.on("/typed.jpg", (_request, response) => {
            response.writeHead(200, { "content-type": "text/html" }).end("<p>Sorry</p>");
        });
        const disguised = remote.on("/disguised.jpg", (_request, response) => {
            const page = "\n<!DOCTYPE html><title>Sorry</title>";
            response.writeHead(200, { "content-type": "image/jpeg", "content-length": page.length }).end(page);
        });
        for (const url of [typed, disguised]) {
            const { error, media } = await failing(url);
            expect(error?.code).to.equal("SOURCE_TYPE_MISMATCH");
            await media.close();
        }
    });

    it("a length that is announced and not kept never becomes a file", async () => {
        const url = remote.on("/short.jpg", (_request, response) => {
            response.writeHead(200, { "content-length": 1000 });
            response.write(someBytes(900), () => response.destroy());
        });
        const { error, eventId } = await failing(url);
        expect(error?.code).to.equal("SOURCE_UNAVAILABLE");
        const mxc = String(
            messages(world.homeserver, roomId).find(({ event_id }) => event_id === eventId)?.content["url"],
        );
        expect((await download(world.homeserver, mxc, 0)).status).to.equal(504);
    });

    it("a stream without an end stops at the limit", async () => {
        const url = remote.on("/endless.jpg", (_request, response) => {
            const more = (): void => {
                if (!response.destroyed) response.write(Buffer.alloc(64 * 1024), more);
            };
            response.writeHead(200);
            more();
        });
        const { error } = await failing(url, { maxFileBytes: 2 ** 20 });
        expect(error?.code).to.equal("FILE_TOO_LARGE");
    });

    it("a redirect loop, and a source that never answers", async () => {
        const loop = remote.on("/loop", (_request, response) => response.writeHead(302, { location: "/loop" }).end());
        const first = await failing(loop);
        expect(first.error?.code).to.equal("SOURCE_TOO_MANY_REDIRECTS");
        await first.media.close();
        const { error } = await failing(
            remote.on("/silent", () => {}),
            { timeLimits: { headersMs: 1000 } },
        );
        expect(error?.code).to.equal("SOURCE_TIMEOUT");
    });

    it("an address in a private network is refused, also behind a name and behind a redirect", async () => {
        const bytes = someBytes(10);
        const media = world.component({ allowPrivateAddresses: false });
        await media.start();
        const port = new URL(remote.url).port;
        for (const host of ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "[::1]"]) {
            const url = `http://${host}:${port}${new URL(remote.file(bytes)).pathname}`;
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
            expect(error, host).to.include({ code: "SOURCE_ADDRESS_REFUSED" });
        }
        expect(remote.requests).to.have.length(0);
        await media.close();

        // Allowed here, but not where it redirects to.
        const url = remote.on("/away", (_request, response) => {
            response.writeHead(302, { location: `http://127.0.0.2:${port}/` }).end();
        });
        const { error } = await failing(url, { allowPrivateAddresses: ["127.0.0.1"] });
        expect(error?.code).to.equal("SOURCE_ADDRESS_REFUSED");
    });

    it("sends a source's credentials to its own origin only", async () => {
        const other = await startRemote();
        const bytes = someBytes(100);
        const target = other.file(bytes);
        const url = remote.on("/hop", (_request, response) => response.writeHead(302, { location: target }).end());
        const media = world.component();
        await media.start();
        const headers = { authorization: "Bearer secret", "x-api-key": "secret" };
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url, headers }));
        await sent.uploads[0]?.done;
        expect(remote.requests[0]?.headers).to.include({ authorization: "Bearer secret", "x-api-key": "secret" });
        expect(JSON.stringify(other.requests[0]?.headers)).not.to.contain("secret");
        await other.close();
    });

    it("a file over the homeserver's limit fails before a byte is uploaded", async () => {
        const url = remote.on("/large.jpg", (_request, response) => {
            response.writeHead(200, { "content-length": 2 ** 30 }).flushHeaders();
        });
        const { error } = await failing(url);
        expect(error?.code).to.equal("FILE_TOO_LARGE");
        expect(
            world.homeserver.requests.filter(({ method, path }) => method === "PUT" && path.includes("/upload/")),
        ).to.have.length(1);
    });

    it("a user's quota that is used up is said in the room, and the homeserver is not asked again", async () => {
        const media = world.component();
        await media.start();
        for (const [status, errcode] of [
            [400, "M_RESOURCE_LIMIT_EXCEEDED"],
            [403, "M_USER_LIMIT_EXCEEDED"],
        ] as const) {
            let puts = 0;
            const stop = world.homeserver.intercept(({ method, path }) => {
                if (method !== "PUT" || !path.includes("/upload/")) return undefined;
                puts++;
                return { status, body: { errcode, error: "The secret word" } };
            });
            const url = remote.file(someBytes(3000));
            const { eventId, uploads } = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
            const code = await uploads[0]?.done.catch((error: MediaError) => error.code);
            expect(code, errcode).to.equal("QUOTA_EXCEEDED");
            const { body } = await notice(eventId);
            expect(body)
                .to.match(/^cat\.jpg could not be bridged: the homeserver has no space left for the sender/)
                .and.not.contain("secret");
            expect(puts).to.equal(1);
            stop();
        }
    });

    it("a source that broke midway is resumed where it broke, while the upload stays open", async () => {
        const bytes = someBytes(400_000);
        const ranges: (string | undefined)[] = [];
        const url = remote.on("/flaky.jpg", ({ headers }, response) => {
            ranges.push(headers.range);
            const from = Number(/bytes=(\d+)-/.exec(headers.range ?? "")?.[1] ?? 0);
            const length = { "content-length": bytes.length - from, etag: '"v1"' };
            const range = { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
            response.writeHead(from === 0 ? 200 : 206, from === 0 ? length : { ...length, ...range });
            if (from > 200_000) response.end(bytes.subarray(from));
            else response.write(bytes.subarray(from, from + 150_000), () => setTimeout(() => response.destroy(), 20));
        });
        const media = world.component();
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        await sent.uploads[0]?.done;
        expect(ranges.length).to.be.greaterThan(1);
        const puts = world.homeserver.requests.filter(
            ({ method, path }) => method === "PUT" && path.includes("/upload/"),
        );
        expect(puts).to.have.length(1);
        const { body } = await download(world.homeserver, sent.uploads[0]?.contentUri ?? "");
        expect(sha256(body)).to.equal(sha256(bytes));
    });

    /** Breaks off midway in its first answer; what it has from then on is another file, or the same. Says which ones came. */
    async function resumed(
        named: readonly [OutgoingHttpHeaders, OutgoingHttpHeaders],
        isSame: boolean,
        total?: string,
    ) {
        const size = 300_000;
        const files = [someBytes(size), someBytes(size)] as const;
        let asked = 0;
        const url = remote.on("/changing.jpg", ({ headers }, response) => {
            const isFirst = asked++ === 0;
            const body = isFirst || isSame ? files[0] : files[1];
            const from = Number(/bytes=(\d+)-/.exec(headers.range ?? "")?.[1] ?? 0);
            const range = from > 0 && { "content-range": `bytes ${from}-${size - 1}/${total ?? size}` };
            response.writeHead(from > 0 ? 206 : 200, {
                "content-length": size - from,
                ...named[isFirst ? 0 : 1],
                ...range,
            });
            if (!isFirst) response.end(body.subarray(from));
            else response.write(body.subarray(0, 150_000), () => setTimeout(() => response.destroy(), 20));
        });
        const media = world.component();
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        await sent.uploads[0]?.done;
        const { body } = await download(world.homeserver, sent.uploads[0]?.contentUri ?? "");
        await media.close();
        return { isFirst: body.equals(files[0]), isSecond: body.equals(files[1]), asked };
    }

    it("two versions of a file are never joined, also of a server that does not know If-Range", async () => {
        const monday = "Mon, 05 Jan 2026 00:00:00 GMT";
        for (const [named, total] of [
            [[{ etag: '"v1"' }, { etag: '"v2"' }]],
            [[{ etag: '"v1"' }, { etag: 'W/"v2"' }]],
            [[{ "last-modified": monday }, { "last-modified": "Tue, 06 Jan 2026 00:00:00 GMT" }]],
            [[{ etag: '"v1"' }, {}], "300001"],
        ] as const)
            expect(await resumed(named, false, total), JSON.stringify(named)).to.deep.equal({
                isFirst: false,
                isSecond: true,
                asked: 3,
            });
        for (const [named, total] of [
            [[{ etag: '"v1"' }, {}]],
            [[{ etag: '"v1"' }, { "last-modified": monday }], "*"],
            [[{ etag: '"v1"', "last-modified": monday }, { etag: 'W/"v1"' }]],
            [[{ "last-modified": monday }, { etag: '"v2"' }]],
        ] as const)
            expect(await resumed(named, true, total), JSON.stringify(named)).to.deep.equal({
                isFirst: true,
                isSecond: false,
                asked: 2,
            });
    });

    it("a thumbnail that fails goes; its picture stays", async () => {
        const media = world.component();
        await media.start();
        const content = { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg" } };
        const sent = await media.send({
            id: "with thumbnail",
            roomId,
            sender: alice,
            content,
            media: [
                { at: ["url"], source: { kind: "http", url: remote.file(someBytes(2000)) } },
                { at: ["info", "thumbnail_url"], source: { kind: "http", url: `${remote.url}/gone` } },
            ],
        });
        const shown = await notice(sent.eventId);
        expect(shown).to.include({ msgtype: "m.image", url: sent.uploads[0]?.contentUri });
        expect(shown["info"]).to.deep.equal({ mimetype: "image/jpeg" });
    });

    it("retry() of a failed file edits the event back once the file is there", async () => {
        const { media, eventId, jobId } = await failing(`${remote.url}/late.jpg`);
        await notice(eventId);
        const bytes = someBytes(1234);
        remote.on("/late.jpg", (_request, response) => {
            response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        });
        await media.retry(jobId);
        const shown = await until(() => {
            const edit = edits(world.homeserver, roomId).get(eventId);
            return edit?.["msgtype"] === "m.image" ? edit : undefined;
        });
        expect((await download(world.homeserver, String(shown["url"]))).body.equals(bytes)).to.equal(true);
        const failed = [];
        for await (const job of media.jobs({ state: "failed" })) failed.push(job);
        expect(failed).to.have.length(0);
    });

    it("retry() of what has not failed is JOB_NOT_RETRYABLE, and changes nothing", async () => {
        const media = world.component();
        await media.start();
        const url = remote.on("/slow.jpg", (_request, response) => {
            response.writeHead(200, { "content-length": 1000 }).write(someBytes(10));
        });
        const upload = async (from: string) => media.upload({ kind: "http", url: from }, { userId: alice });
        const [done, slow] = [await upload(remote.file(someBytes(10))), await upload(url)];
        await done.done;
        const refused = async (jobId: string, state: string) => {
            const error = await media.retry(jobId).catch((reason: MediaError) => reason);
            expect(error).to.include({ code: "JOB_NOT_RETRYABLE", retryable: false, detail: `it is ${state}` });
            expect(await stateOf(jobId)).to.equal(state);
        };
        const stateOf = async (jobId: string) => {
            for await (const job of media.jobs()) if (job.id === jobId) return job.state;
            return undefined;
        };
        await refused(done.jobId, "done");
        await until(async () => (await stateOf(slow.jobId)) === "transferring");
        await refused(slow.jobId, "transferring");
        await media.cancel(slow.jobId);
        await slow.done.catch(() => {});
        await refused(slow.jobId, "cancelled");
    });

    it("cancel() ends a transfer that is under way", async () => {
        const media = world.component();
        await media.start();
        const sent = await media.send(
            photoMessage(roomId, alice, { kind: "http", url: remote.on("/never", () => {}) }),
        );
        await until(() => remote.requests.length === 1);
        await media.cancel(sent.uploads[0]?.jobId ?? "");
        expect(await sent.uploads[0]?.done.catch((error: MediaError) => error)).to.include({ code: "CANCELLED" });
        expect((await notice(sent.eventId))["msgtype"]).to.equal("m.notice");
        await media.send(textMessage(roomId, alice, "after"));
        expect(bodies(world.homeserver, roomId).at(-1)).to.equal("after");
    });
});
