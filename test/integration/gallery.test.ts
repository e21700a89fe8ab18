import { expect } from "chai";
import type { JobInfo, MediaError, RemoteMessage } from "../../src/index.ts";
import { download, edits, messages } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

describe("several files in one event", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    function gallery(urls: readonly string[]): RemoteMessage {
        return {
            id: `gallery ${urls.join()}`,
            roomId,
            sender: alice,
            content: {
                msgtype: "dm.filament.gallery",
                body: "Our trip",
                itemtypes: urls.map((_, index) => ({
                    itemtype: "m.image",
                    body: `${index}.jpg`,
                    info: { mimetype: "image/jpeg" },
                })),
            },
            media: urls.map((url, index) => ({
                at: ["itemtypes", `${index}`, "url"],
                source: { kind: "http", url } as const,
            })),
        };
    }

    const itemsOf = (content: Record<string, unknown> | undefined) =>
        content?.["itemtypes"] as Record<string, unknown>[];

    it("shows each in its place, described by its own element", async () => {
        const media = world.component();
        await media.start();
        const files = [someBytes(100), someBytes(200), someBytes(300)];
        const sent = await media.send(gallery(files.map((file) => remote.file(file))));
        const [event] = messages(world.homeserver, roomId);
        const items = itemsOf(event?.content);
        expect(items.map(({ url }) => url)).to.deep.equal(sent.uploads.map(({ contentUri }) => contentUri));
        const ends: JobInfo[] = [];
        for (const { done } of sent.uploads) ends.push(await done);
        expect(ends.map(({ filename }) => filename)).to.deep.equal(["0.jpg", "1.jpg", "2.jpg"]);
        for (const [index, file] of files.entries()) {
            const { body } = await download(world.homeserver, String(items[index]?.["url"]));
            expect(body.equals(file)).to.equal(true);
        }
    });

    it("a failed one says so in its place and moves no other; when all have failed the event says so", async () => {
        const media = world.component();
        await media.start();
        const sent = await media.send(
            gallery([`${remote.url}/gone`, remote.file(someBytes(10)), `${remote.url}/gone too`]),
        );
        for (const { done } of sent.uploads) await done.catch(() => {});
        const items = await until(() => {
            const shown = itemsOf(edits(world.homeserver, roomId).get(sent.eventId));
            return shown?.filter(({ url }) => url === undefined).length === 2 ? shown : undefined;
        });
        expect(items[0]).to.deep.equal({
            itemtype: "m.image",
            body: "0.jpg could not be bridged: the file is no longer available at its source",
            info: { mimetype: "image/jpeg" },
        });
        expect(items[1]).to.include({ body: "1.jpg", url: sent.uploads[1]?.contentUri });
        expect(items).to.have.length(3);

        const none = await media.send(gallery([`${remote.url}/a`, `${remote.url}/b`]));
        await until(() => edits(world.homeserver, roomId).get(none.eventId)?.["msgtype"] === "m.notice");
    });

    it("what its sender said of each and of all stays, in plain text and HTML", async () => {
        const media = world.component();
        await media.start();
        const say = (text: string) => ({
            body: text,
            format: "org.matrix.custom.html",
            formatted_body: `<i>${text}</i>`,
        });
        const captioned = (urls: readonly string[]): RemoteMessage => {
            const message = gallery(urls);
            const itemtypes = itemsOf(message.content).map((item, index) => ({
                ...item,
                filename: `${index}.jpg`,
                ...say(`caption ${index}`),
            }));
            return { ...message, content: { ...message.content, ...say("Our trip"), itemtypes } };
        };
        const lost = "could not be bridged: the file is no longer available at its source";
        const sent = await media.send(captioned([`${remote.url}/gone`, remote.file(someBytes(10))]));
        const items = await until(() => itemsOf(edits(world.homeserver, roomId).get(sent.eventId)));
        expect(items[0]).to.deep.equal({
            itemtype: "m.image",
            filename: "0.jpg",
            body: `0.jpg ${lost}\n\ncaption 0`,
            format: "org.matrix.custom.html",
            formatted_body: `0.jpg ${lost}<br><br><i>caption 0</i>`,
            info: { mimetype: "image/jpeg" },
        });
        expect(items[1]).to.include({ filename: "1.jpg", ...say("caption 1") });
        expect(edits(world.homeserver, roomId).get(sent.eventId)).to.include(say("Our trip"));

        const none = await media.send(captioned([`${remote.url}/a`, `${remote.url}/b`]));
        const notice = await until(() => {
            const shown = edits(world.homeserver, roomId).get(none.eventId);
            return shown?.["msgtype"] === "m.notice" ? shown : undefined;
        });
        expect(notice).to.deep.equal({
            msgtype: "m.notice",
            body: `0.jpg ${lost}\n\ncaption 0\n\n1.jpg ${lost}\n\ncaption 1\n\nOur trip`,
            format: "org.matrix.custom.html",
            formatted_body: `0.jpg ${lost}<br><br><i>caption 0</i><br><br>1.jpg ${lost}<br><br><i>caption 1</i><br><br><i>Our trip</i>`,
        });
    });

    it("names every file that is lost, also where onFailure gave no answer", async () => {
        const media = world.component({
            onFailure: () => {
                throw new Error("in the callback");
            },
        });
        await media.start();
        const sent = await media.send(gallery([`${remote.url}/a`, `${remote.url}/b`]));
        await until(() => {
            const body = String(edits(world.homeserver, roomId).get(sent.eventId)?.["body"]);
            return ["0.jpg could", "1.jpg could", "Our trip"].every((part) => body.includes(part));
        });
    });

    it("shows the notice also when its files fail at the same moment", async () => {
        const media = world.component({ concurrency: 16 });
        await media.start();
        const galleries = Array.from({ length: 12 }, (_, number) =>
            gallery(Array.from({ length: 6 }, (__, index) => `${remote.url}/${number}/${index}`)),
        );
        const sends = await Promise.all(galleries.map((message) => media.send(message)));
        for (const { eventId } of sends) {
            await until(() => edits(world.homeserver, roomId).get(eventId)?.["msgtype"] === "m.notice");
        }
    }).timeout(30_000);

    it("tells of one that fails while another, which never had an address, is tried again", async () => {
        let left = 2;
        let isRefused = true;
        world.homeserver.intercept(({ path }) =>
            // An address is asked for a second time as soon as its user is known to be registered.
            (path.includes("/media/v1/create") && left-- > 0) || (isRefused && path.endsWith("/media/v3/upload"))
                ? { status: 403, body: { errcode: "M_FORBIDDEN", error: "no" } }
                : undefined,
        );
        const media = world.component({ reserveAhead: 0 });
        await media.start();
        const ends = new Map<string, () => void>();
        const bytes = someBytes(100);
        const first = remote.file(bytes);
        const second = remote.on("/second", (_request, response) => {
            ends.set("second", () => response.writeHead(404).end());
        });
        const sent = await media.send(gallery([first, second, remote.file(bytes)]));
        const items = () => itemsOf(edits(world.homeserver, roomId).get(sent.eventId));
        const [failed] = sent.uploads;
        expect(await failed?.done.catch(({ code }: MediaError) => code)).to.equal("FORBIDDEN");
        isRefused = false;
        remote.on(new URL(first).pathname, (_request, response) => {
            ends.set("first", () => response.writeHead(200, { "content-length": bytes.length }).end(bytes));
        });
        await media.retry(failed?.jobId ?? "");
        await until(() => ends.size === 2);
        ends.get("second")?.();
        const told = await until(() => items());
        expect(String(told[1]?.["body"])).to.contain("1.jpg could not be bridged");
        ends.get("first")?.();
        const shown = await until(() => (items()[0]?.["url"] === undefined ? undefined : items()));
        expect(shown[1]).to.deep.equal(told[1]);
    });

    it("edited, shows the files that its new content has a place for, and no word of the others", async () => {
        const media = world.component();
        await media.start();
        let fail = (): void => {};
        const late = remote.on("/late", (_request, response) => {
            fail = () => response.writeHead(404).end();
        });
        const message = gallery([remote.file(someBytes(10)), late]);
        const sent = await media.send(message);
        await sent.uploads[0]?.done;
        const edited = async (content: RemoteMessage["content"]) => {
            await media.edit(sent.id, { id: `edit ${Math.random()}`, content });
            return edits(world.homeserver, roomId).get(sent.eventId);
        };
        const [item] = itemsOf(message.content);
        const url = sent.uploads[0]?.contentUri;
        const fewer = { ...message.content, itemtypes: [item] };
        expect(await edited(fewer)).to.deep.equal({ ...fewer, itemtypes: [{ ...item, url }] });
        const text = { msgtype: "m.text", body: "became text" };
        expect(await edited(text)).to.deep.equal(text);
        fail();
        await sent.uploads[1]?.done.catch(() => {});
        // An edit that was due would stand before the second of them.
        for (const body of ["after", "later"]) await media.send({ ...message, id: body, content: { body }, media: [] });
        expect(edits(world.homeserver, roomId).get(sent.eventId)).to.deep.equal(text);
    });

    it("refuses a place that no array of the content has", async () => {
        const media = world.component();
        await media.start();
        const message = gallery([remote.file(someBytes(10))]);
        for (const key of ["1", "-1", "00", "length", "0.0", "there is none"]) {
            const at = key === "there is none" ? ["others", "0", "url"] : ["itemtypes", key, "url"];
            const wrong = { ...message, media: (message.media ?? []).map((item) => ({ ...item, at })) };
            const error = await media.send(wrong).catch(({ code, field }: MediaError) => ({ code, field }));
            expect(error, key).to.deep.equal({ code: "INVALID_ARGUMENT", field: "media[0].at" });
        }
        expect(messages(world.homeserver, roomId)).to.have.length(0);
    });

    it("uploads a thumbnail before its large file, whichever was named first", async () => {
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0 });
        await media.start();
        const [busy, large, small] = ["/busy", "/large", "/small"].map((path) => {
            const bytes = someBytes(path === "/small" ? 40_000 : 1000);
            return remote.on(path, (_request, response) => {
                const answer = (): void => void response.writeHead(200, { "content-length": bytes.length }).end(bytes);
                if (path === "/busy") release = answer;
                else answer();
            });
        });
        let release: () => void = () => {};
        // The only place is taken while the two are lined up.
        await media.send(photoMessage(roomId, alice, { kind: "http", url: busy ?? "" }));
        await until(() => remote.requests.length === 1);
        const sent = await media.send({
            ...photoMessage(roomId, alice, { kind: "http", url: large ?? "" }),
            media: [
                { at: ["url"], source: { kind: "http", url: large ?? "" }, size: 1000 },
                { at: ["info", "thumbnail_url"], source: { kind: "http", url: small ?? "" } },
            ],
        });
        release();
        for (const { done } of sent.uploads) await done;
        expect(remote.requests.map(({ url }) => url)).to.deep.equal(["/busy", "/small", "/large"]);
    });

    it("gives a place that is free to the thumbnail", async () => {
        const media = world.component({ concurrency: 1, smallFileConcurrency: 0 });
        await media.start();
        const [large, small] = ["/large", "/small"].map((path) =>
            remote.on(path, (_request, response) => response.end(someBytes(1000))),
        );
        const sent = await media.send({
            ...photoMessage(roomId, alice, { kind: "http", url: large ?? "" }),
            media: [
                { at: ["url"], source: { kind: "http", url: large ?? "" } },
                { at: ["info", "thumbnail_url"], source: { kind: "http", url: small ?? "" } },
            ],
        });
        for (const { done } of sent.uploads) await done;
        expect(remote.requests.map(({ url }) => url)).to.deep.equal(["/small", "/large"]);
    });
});

describe("what a message's content says besides", () => {
    it("passes through untouched: captions, voice messages, replies, threads, edits, stickers", async () => {
        const { world, remote, alice, roomId } = await openScene();
        const media = world.component();
        await media.start();
        const source = { kind: "http", url: remote.file(someBytes(100), "audio/ogg") } as const;
        const first = await media.send(photoMessage(roomId, alice, source));
        const event_id = first.eventId;
        const relations = [
            { "m.in_reply_to": { event_id } },
            { rel_type: "m.thread", event_id, is_falling_back: true, "m.in_reply_to": { event_id } },
        ];
        const contents: Record<string, unknown>[] = [
            {
                msgtype: "m.image",
                body: "A *caption*",
                format: "org.matrix.custom.html",
                formatted_body: "A <em>caption</em>",
                filename: "cat.jpg",
                info: { mimetype: "image/jpeg", w: 3, h: 4, "xyz.amorgan.blurhash": "LKO2" },
                "m.mentions": { user_ids: ["@bob:example.org"] },
            },
            {
                msgtype: "m.audio",
                body: "Voice message",
                info: { mimetype: "audio/ogg", duration: 2140 },
                "org.matrix.msc1767.audio": { duration: 2140, waveform: [0, 512, 1024] },
                "org.matrix.msc3245.voice": {},
            },
            ...relations.map((relation) => ({ msgtype: "m.file", body: "a.pdf", "m.relates_to": relation })),
            {
                msgtype: "m.image",
                body: "* cat.jpg",
                "m.new_content": { msgtype: "m.image", body: "cat.jpg" },
                "m.relates_to": { rel_type: "m.replace", event_id },
            },
        ];
        for (const [index, content] of contents.entries()) {
            const edited = "m.new_content" in content ? [{ at: ["m.new_content", "url"], source }] : [];
            const sent = await media.send({
                id: `content ${index}`,
                roomId,
                sender: alice,
                content,
                media: [{ at: ["url"], source }, ...edited],
            });
            const shown = messages(world.homeserver, roomId).find((event) => event.event_id === sent.eventId)?.content;
            const [url, inside] = sent.uploads.map(({ contentUri }) => contentUri);
            const expected = { ...content, url };
            expect(shown).to.deep.equal(
                inside === undefined
                    ? expected
                    : { ...expected, "m.new_content": { ...(content["m.new_content"] as object), url: inside } },
            );
        }
        await closeScene({ world, remote });
    });
});
