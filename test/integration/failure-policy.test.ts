import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { type BridgeMediaOptions, type FailureInfo, MediaError, type SentMessage } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { bodies, edits, messages } from "../support/download.ts";
import { copyImage } from "../support/image.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const isRedact = ({ path }: { path: string }): boolean => path.includes("/redact/");

describe("what becomes of an event whose file cannot come", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        // Transactions are forgotten at once, as when the homeserver was restarted meanwhile.
        ({ world, remote, alice, roomId } = await openScene({ txnMemoryMs: 0 }));
    });
    afterEach(() => closeScene({ world, remote }));

    const content = { msgtype: "m.image", body: "Look!", filename: "cat.jpg", info: { mimetype: "image/jpeg" } };
    const failing = (path = "/gone.jpg") =>
        photoMessage(roomId, alice, { kind: "http", url: remote.url + path }, { content });
    const begun = async (options: Partial<BridgeMediaOptions>) => {
        const media = world.component(options);
        await media.start();
        return media;
    };
    const redactions = () => world.homeserver.events(roomId).filter(({ type }) => type === "m.room.redaction");
    const isOver = ({ uploads }: SentMessage) => uploads[0]?.done.catch(() => {});
    const appears = (path: string): void => {
        const bytes = someBytes(500);
        remote.on(path, (_request, response) => response.end(bytes));
    };
    const shown = (eventId: string) => edits(world.homeserver, roomId).get(eventId);

    it("notice: in the words of failureTexts, with the public link", async () => {
        const media = await begun({ failureTexts: { SOURCE_NOT_FOUND: "{name} fehlt[: {link}]" } });
        const message = failing();
        const publicUrl = "https://chat.example.org/cat";
        const [item] = message.media ?? [];
        if (item === undefined) throw new Error("no file");
        const { eventId } = await media.send({ ...message, media: [{ ...item, publicUrl }] });
        const edit = await until(() => shown(eventId));
        expect(edit["body"]).to.equal(`cat.jpg fehlt: ${publicUrl}\n\nLook!`);
        expect(edit["formatted_body"]).to.contain(`<a href="${publicUrl}">`);
    });

    it("a function: asked again when the disk did not take its answer, with nothing else to look at", async () => {
        let refusals = 1;
        class Refusing extends LevelStore {
            override async commit(writes: readonly Write[]): Promise<void> {
                const isAnswer = writes.some(({ record }) => JSON.stringify(record ?? {}).includes("lost: "));
                if (isAnswer && refusals-- > 0) throw new MediaError("STORE_WRITE_FAILED");
                return super.commit(writes);
            }
        }
        const media = await begun({
            store: (directory) => new Refusing(directory),
            onFailure: ({ name }) => ({ msgtype: "m.text", body: `lost: ${name}` }),
        });
        const { eventId } = await media.send(failing());
        expect((await until(() => shown(eventId)))["body"]).to.equal("lost: cat.jpg");
    });

    it("notice: with the link that its connector calls public, if a room may be shown it", async () => {
        const media = await begun({
            connectors: {
                chat: {
                    open: () => Promise.reject(new MediaError("SOURCE_NOT_FOUND")),
                    publicUrl(ref) {
                        if (ref === "broken") throw new Error("broken");
                        return ref as string;
                    },
                },
            },
        });
        const linked = "https://chat.example.org/cat";
        for (const ref of [linked, "https://user:password@chat.example.org/cat", "javascript:alert(1)", "broken", 1]) {
            const source = { kind: "connector", connector: "chat", ref } as const;
            const { eventId } = await media.send(photoMessage(roomId, alice, source, { content }));
            const { body } = await until(() => shown(eventId));
            if (ref === linked) expect(body).to.include(linked);
            else expect(body).not.to.match(/chat.example.org|alert|broken/);
        }
        const own = { at: ["url"], source: { kind: "connector", connector: "chat", ref: linked } } as const;
        const publicUrl = "https://elsewhere.example.org/";
        const { eventId } = await media.send({ ...failing(), media: [{ ...own, publicUrl }] });
        expect((await until(() => shown(eventId)))["body"])
            .to.include(publicUrl)
            .and.not.include(linked);
    });

    it("notice: says the limit that the file is over", async () => {
        const media = await begun({ maxFileBytes: 1024 });
        const { eventId } = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: someBytes(2000) }));
        expect((await until(() => shown(eventId)))["body"]).to.contain("larger than the limit of 1.0 KiB");
    });

    it("redact: once, by its sender, in the room's order, also when the answer was lost", async () => {
        let lost = 0;
        world.homeserver.intercept((request) => (isRedact(request) && lost++ === 0 ? { drop: "after" } : undefined));
        const media = await begun({ onFailure: "redact" });
        const sent = await media.send(failing());
        await isOver(sent);
        await until(() => lost > 0);
        await media.send(textMessage(roomId, alice, "after"));
        await until(() => redactions().length > 0);
        expect(redactions().map(({ redacts, sender }) => [redacts, sender])).to.deep.equal([[sent.eventId, alice]]);
        expect(bodies(world.homeserver, roomId).at(-1)).to.equal("after");
        expect(world.homeserver.events(roomId).at(-1)?.content["body"], "behind the redaction").to.equal("after");
        const original = messages(world.homeserver, roomId).find(({ event_id }) => event_id === sent.eventId);
        expect(original?.content).to.deep.equal({});

        // It fails again, and there is nothing more to redact.
        const failures: string[] = [];
        media.on("job", ({ state }) => failures.push(state));
        await media.retry(sent.uploads[0]?.jobId ?? "");
        await until(() => failures.includes("failed"));
        await media.send(textMessage(roomId, alice, "again"));
        expect(redactions()).to.have.length(1);

        // What was redacted stays so, although the file comes after all.
        appears("/gone.jpg");
        await media.retry(sent.uploads[0]?.jobId ?? "");
        await until(() => world.homeserver.media(sent.uploads[0]?.contentUri ?? ""));
        await media.send(textMessage(roomId, alice, "later"));
        expect(shown(sent.eventId)).to.equal(undefined);
    });

    it("redact: one that a crash left in the journal is made at the next start, once", async () => {
        world.homeserver.intercept((request) => (isRedact(request) && held ? { drop: "after" } : undefined));
        let held = true;
        const first = await begun({ onFailure: "redact" });
        const sent = await first.send(failing());
        await until(() => redactions().length === 1);
        await first.close();
        held = false;
        const second = await begun({ onFailure: "redact" });
        await second.send(textMessage(roomId, alice, "after"));
        expect(redactions()).to.have.length(1);
        expect(redactions()[0]?.redacts).to.equal(sent.eventId);
    });

    it("keep: the event stays as it was sent, and without a thumbnail that failed nothing is said either", async () => {
        const media = await begun({ onFailure: "keep" });
        const source = { kind: "http", url: `${remote.url}/gone.jpg` } as const;
        const sent = await media.send({
            ...failing(),
            media: [
                { at: ["url"], source },
                { at: ["info", "thumbnail_url"], source },
            ],
        });
        for (const { done } of sent.uploads) await done.catch(() => {});
        // An edit that was due would stand before the second of them.
        for (const body of ["after", "later"]) await media.send(textMessage(roomId, alice, body));
        const [url, thumbnail_url] = sent.uploads.map(({ contentUri }) => contentUri);
        const said = messages(world.homeserver, roomId).map((event) => event.content);
        expect(said).to.deep.equal([
            { ...content, url, info: { ...content.info, thumbnail_url } },
            { msgtype: "m.text", body: "after" },
            { msgtype: "m.text", body: "later" },
        ]);
        expect(redactions()).to.have.length(0);
    });

    it("callback: its content is shown, without secrets in what it is told, and edited back after a retry", async () => {
        const told: FailureInfo[] = [];
        const media = await begun({
            failureTexts: { reasons: { SOURCE_NOT_FOUND: "nicht mehr da" } },
            onFailure: (failure) => {
                told.push(failure);
                return { msgtype: "m.text", body: `lost ${failure.name}` };
            },
        });
        const sent = await media.send(failing("/late.jpg?token=secret"));
        expect((await until(() => shown(sent.eventId)))["body"]).to.equal("lost cat.jpg");
        expect(told).to.have.length(1);
        const reason = "nicht mehr da";
        expect(told[0]).to.include({ code: "SOURCE_NOT_FOUND", reason, roomId, sender: alice, eventId: sent.eventId });
        expect(JSON.stringify(told)).not.to.contain("secret");
        appears("/late.jpg");
        await media.retry(sent.uploads[0]?.jobId ?? "");
        const back = await until(() =>
            shown(sent.eventId)?.["msgtype"] === "m.image" ? shown(sent.eventId) : undefined,
        );
        expect(back["url"]).to.equal(sent.uploads[0]?.contentUri);
    });

    it("callback: is asked again when the message was edited, for it was answered for another text", async () => {
        const media = await begun({
            onFailure: ({ content: { body } }) => ({ msgtype: "m.text", body: `lost: ${String(body)}` }),
        });
        const sent = await media.send(failing());
        await until(() => shown(sent.eventId)?.["body"] === "lost: Look!");
        await media.edit(sent.id, { id: "edit", content: { ...content, body: "Look here!" } });
        await until(() => shown(sent.eventId)?.["body"] === "lost: Look here!");
    });

    it("a sticker's notice is a reply to it; when it comes after all, it is edited, and seen by whoever knows no edits of it", async () => {
        const media = await begun({});
        const message = { ...failing("/late.webp"), eventType: "m.sticker", content: { body: "a cat", info: {} } };
        const sent = await media.send(message);
        const newest = () => world.homeserver.events(roomId).at(-1);
        await until(() => newest()?.content["msgtype"] === "m.notice");
        const notice = newest();
        expect(notice?.type).to.equal("m.room.message");
        expect(notice?.content["m.relates_to"]).to.deep.equal({ "m.in_reply_to": { event_id: sent.eventId } });
        appears("/late.webp");
        await media.retry(sent.uploads[0]?.jobId ?? "");
        await until(() => newest()?.type === "m.sticker");
        const { contentUri: url } = sent.uploads[0] ?? {};
        expect(newest()?.content).to.deep.equal({
            body: "* a cat",
            info: {},
            url,
            "m.new_content": { body: "a cat", info: {}, url },
            "m.relates_to": { rel_type: "m.replace", event_id: sent.eventId },
        });
    });

    for (const onFailure of ["notice", () => ({ msgtype: "m.text", body: "lost" })] as const) {
        const how = typeof onFailure === "string" ? "notice" : "answer";
        it(`a sticker's ${how} stands in the sticker's thread, also when an edit did not repeat that`, async () => {
            const media = await begun({ onFailure });
            const root = await media.send(textMessage(roomId, alice, "the root"));
            const before = await media.send(textMessage(roomId, alice, "in the thread"));
            const thread = { rel_type: "m.thread", event_id: root.eventId };
            const fallback = { is_falling_back: true, "m.in_reply_to": { event_id: before.eventId } };
            const message = { ...failing(), eventType: "m.sticker" };
            const relation = { "m.relates_to": { ...thread, ...fallback } };
            const sent = await media.send({ ...message, content: { body: "a cat", info: {}, ...relation } });
            const notices = () =>
                messages(world.homeserver, roomId).filter(({ content: { body } }) =>
                    /^lost|could not be/.test(String(body)),
                );
            const isTold = { ...thread, is_falling_back: false, "m.in_reply_to": { event_id: sent.eventId } };
            const first = await until(() => notices()[0]);
            expect(first.content["m.relates_to"]).to.deep.equal(isTold);
            const edit = { body: "a small cat", filename: "cat.webp", info: {} };
            await media.edit(sent.id, { id: `${sent.id}/edit`, content: edit });
            const second = await until(() => notices()[1]);
            expect(second.content["m.relates_to"]).to.deep.equal(isTold);
        });
    }

    it("callback: undefined leaves the event as it is; an error or nonsense gives the notice", async () => {
        const answers: (() => unknown)[] = [
            () => undefined,
            () => {
                throw new Error("in the callback");
            },
            () => "nonsense",
            async () => ({ body: "well" }),
        ];
        const media = await begun({ onFailure: () => answers.shift()?.() as undefined });
        const sent: SentMessage[] = [];
        for (let index = 0; index < 4; index++) {
            const one = await media.send(failing(`/gone/${index}`));
            await isOver(one);
            await until(() => answers.length === 3 - index);
            sent.push(one);
        }
        await until(() => edits(world.homeserver, roomId).size === 3);
        const shownBodies = sent.map(({ eventId }) => String(shown(eventId)?.["body"]));
        expect(shownBodies[0]).to.equal("undefined");
        expect(shownBodies[1]).to.contain("could not be bridged");
        expect(shownBodies[2]).to.contain("could not be bridged");
        expect(shownBodies[3]).to.equal("well");
    });

    it("callback: no answer in time gives the notice, and holds up nobody meanwhile", async function () {
        this.timeout(30_000);
        const media = await begun({
            onFailure: ({ name }) =>
                name === "cat.jpg" ? new Promise(() => {}) : { msgtype: "m.text", body: "other" },
        });
        const silent = await media.send(failing());
        const other = await media.send(
            photoMessage(roomId, alice, { kind: "http", url: `${remote.url}/x` }, {}, { filename: "x" }),
        );
        await until(() => shown(other.eventId)?.["body"] === "other");
        expect(shown(silent.eventId)).to.equal(undefined);
        const late = await until(() => shown(silent.eventId), { limitMs: 20_000 });
        expect(late["body"]).to.contain("could not be bridged");
    });

    it("callback: close() does not wait for it, and that it was asked then does not count", async () => {
        let calls = 0;
        let answers = false;
        const onFailure = () => {
            calls++;
            return answers ? { msgtype: "m.text", body: "at last" } : new Promise<undefined>(() => {});
        };
        let eventId = "";
        for (let life = 0; life < 4; life++) {
            answers = life === 3;
            const media = await begun({ onFailure });
            if (life === 0) ({ eventId } = await media.send(failing()));
            await until(() => calls === life + 1);
            if (life < 3) await media.close();
        }
        await until(() => shown(eventId)?.["body"] === "at last");
    });

    it("callback: a process that dies of it asks at most once more", async () => {
        let calls = 0;
        let eventId = "";
        const copies: string[] = [];
        let dataDir = world.dataDir;
        for (let life = 0; life < 3; life++) {
            const media = await begun({
                dataDir,
                onFailure: () => {
                    calls++;
                    return new Promise<undefined>(() => {});
                },
            });
            if (life === 0) ({ eventId } = await media.send(failing()));
            if (life === 2) break;
            await until(() => calls === life + 1);
            // The journal as a kill at this instant leaves it.
            dataDir = await mkdtemp(join(tmpdir(), "bridge-media-copy-"));
            copies.push(dataDir);
            await copyImage(life === 0 ? world.dataDir : (copies[life - 1] ?? ""), dataDir);
            await media.close();
        }
        await until(() => shown(eventId));
        expect(calls).to.equal(2);
        expect(shown(eventId)?.["body"]).to.contain("could not be bridged");
        await world.close();
        for (const copy of copies) await rm(copy, { recursive: true, force: true });
    });
});
