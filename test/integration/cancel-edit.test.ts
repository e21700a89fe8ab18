import { mkdtemp, rm } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Registry } from "prom-client";
import { EDITED } from "../../src/bridge/records.ts";
import { deferred } from "../../src/deferred.ts";
import type { BridgeMedia, JobInfo, MediaError, RemoteMessage, SentMessage } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { bodies, download, edits, messages } from "../support/download.ts";
import { copyImage } from "../support/image.ts";
import { beginInDoubt, endInDoubt } from "../support/in-doubt.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const isSend = ({ path }: { path: string }): boolean => path.includes("/send/");
const code = async (promise: Promise<unknown> | undefined): Promise<string | undefined> =>
    promise?.then(
        () => "none",
        (error: MediaError) => error.code,
    );

describe("a message that is taken back or edited", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    let media: BridgeMedia;
    async function open(options: Parameters<typeof openScene>[0] = {}): Promise<void> {
        ({ world, remote, alice, roomId } = await openScene({ txnMemoryMs: 0, ...options }));
        media = world.component();
        await media.start();
    }
    afterEach(() => closeScene({ world, remote }));

    const redactions = () => world.homeserver.events(roomId).filter(({ type }) => type === "m.room.redaction");
    const silent = () => photoMessage(roomId, alice, { kind: "http", url: remote.on("/never", () => {}) });
    const image = (body: string) => ({
        msgtype: "m.image",
        body,
        filename: "cat.jpg",
        info: { mimetype: "image/jpeg" },
    });
    const shown = (eventId: string) => edits(world.homeserver, roomId).get(eventId);
    const first = ({ uploads }: SentMessage) => uploads[0];
    /** A file that is gone when that is said, once it has been asked for. */
    const vanishing = () => {
        let fail = (): void => {};
        const url = remote.on("/gone", (_request, response) => {
            fail = () => response.writeHead(404).end();
        });
        return { url, fail: () => fail() };
    };
    /** A photo whose file is asked for, and then nothing more reaches the homeserver: in the room's line stand a text and an edit. */
    const heldUp = async (url: string, edited: string) => {
        const photo = photoMessage(roomId, alice, { kind: "http", url }, { id: "photo", content: image("one") });
        const sent = await media.send(photo);
        await until(() => remote.requests.length === 1);
        let isDown = true;
        world.homeserver.intercept((request) => (isDown && isSend(request) ? { status: 503, body: {} } : undefined));
        const ahead = media.send(textMessage(roomId, alice, "ahead"));
        const editing = media.edit("photo", { id: "edit", content: image(edited) });
        // Whoever expects it to be refused hears of that later.
        editing.catch(() => {});
        await until(() => world.homeserver.requests.some(({ status }) => status === 503));
        const goOn = (): void => {
            isDown = false;
        };
        return { sent, ahead, editing, goOn };
    };
    /** The way of a message that is taken back out of its line: as long as a notice takes into it. */
    const aNoticesWay = async (): Promise<void> => {
        const unwanted = code(media.send(textMessage(roomId, alice, "unwanted", { id: "unwanted" })));
        await media.cancelMessage("unwanted");
        await unwanted;
    };

    it("cancel() frees the transfer's place at once, with redact the event goes too", async () => {
        await open();
        await media.close();
        media = world.component({ concurrency: 1, smallFileConcurrency: 0 });
        await media.start();
        const sent = await media.send(silent());
        const next = await media.send(photoMessage(roomId, alice, { kind: "buffer", data: someBytes(100) }));
        await until(() => remote.requests.length === 1);
        await media.cancel(first(sent)?.jobId ?? "", { redact: true });
        expect((await first(next)?.done)?.state).to.equal("done");
        expect(await code(first(sent)?.done)).to.equal("CANCELLED");
        await until(() => redactions().length === 1);
        expect(redactions()[0]).to.include({ redacts: sent.eventId, sender: alice });
        await media.send(textMessage(roomId, alice, "after"));
        expect(shown(sent.eventId), "no notice behind it").to.equal(undefined);
    });

    it("a message that still stands in line is never sent, and its files are not fetched", async () => {
        await open();
        let down = true;
        world.homeserver.intercept((request) => (down && isSend(request) ? { status: 503, body: {} } : undefined));
        const before = media.send(textMessage(roomId, alice, "before"));
        const unwanted = media.send({ ...silent(), id: "unwanted" });
        const after = media.send(textMessage(roomId, alice, "after"));
        await until(() => world.homeserver.requests.some(isSend));
        const refusal = code(unwanted);
        await media.cancelMessage("unwanted", { redact: true });
        expect(await refusal).to.equal("CANCELLED");
        down = false;
        await Promise.all([before, after]);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["before", "after"]);
        expect(remote.requests).to.have.length(0);
        expect(await code(media.send({ ...silent(), id: "unwanted" })), "again").to.equal("CANCELLED");
        for await (const job of media.jobs()) expect(job.state).to.equal("cancelled");
    });

    it("a message that was taken back, and whose process ended just then, has no file under way for ever", async () => {
        await open({ features: { create: false } });
        media.send({ ...silent(), id: "unwanted" }).catch(() => {});
        await until(() => remote.requests.length === 1);
        const folder = await mkdtemp(join(tmpdir(), "bridge-media-copy-"));
        const [first, second] = [join(folder, "first"), join(folder, "second")];
        // Killed while the file was under way before its event.
        await copyImage(world.dataDir, first);
        await media.close();
        const dead = deferred();
        let isOver = false;
        // Ends with the refusal: the file's own end is not journaled any more.
        class Dying extends LevelStore {
            override async commit(writes: readonly Write[]): Promise<void> {
                if (isOver) await dead.promise;
                isOver ||= writes.some(({ record }) => record?.["state"] === "refused");
                return super.commit(writes);
            }
        }
        const stop = world.homeserver.intercept(({ path }) =>
            path.includes("/messages") ? { drop: "before" } : undefined,
        );
        media = world.component({ dataDir: first, store: (directory) => new Dying(directory) });
        await media.start();
        const taking = media.cancelMessage("unwanted").catch(() => {});
        const again = code(media.send({ ...silent(), id: "unwanted" }));
        stop();
        expect(await again).to.equal("CANCELLED");
        await copyImage(first, second);
        dead.resolve();
        await taking;
        await media.close();
        media = world.component({ dataDir: second });
        await media.start();
        await until(async () => {
            for await (const { state } of media.jobs()) return state === "cancelled";
            return false;
        });
        await media.close();
        await rm(folder, { recursive: true });
    });

    it("a file that is cancelled while its message stands in line leaves its address to the next, one that may be shown does not", async () => {
        await open();
        await media.close();
        media = world.component({ reserveAhead: 2 });
        await media.start();
        const photo = () => media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(someBytes(100)) }));
        await first(await photo())?.done;
        const registry = new Registry();
        media.registerMetrics(registry);
        await until(async () => (await registry.metrics()).includes("bridge_media_reservations 2\n"));
        let isDown = true;
        world.homeserver.intercept((request) => (isDown && isSend(request) ? { status: 503, body: {} } : undefined));
        const sending = [photo(), photo()];
        await until(() =>
            world.homeserver.requests.some(({ status, path }) => path.includes("/send/") && status === 503),
        );
        const reserved = await until(async () => {
            const found: JobInfo[] = [];
            for await (const job of media.jobs({ state: "reserved" })) found.push(job);
            return found.length === 2 ? found : undefined;
        });
        for (const { id } of reserved) await media.cancel(id);
        const uris = reserved.map(({ contentUri }) => contentUri);
        isDown = false;
        const [shown, unseen] = (await Promise.all(sending)).map(({ uploads }) => uploads[0]?.contentUri);
        expect(uris).to.have.members([shown, (await first(await photo())?.done)?.contentUri]);
        expect(unseen).to.equal(undefined);
    });

    it("one that its lane is trying to send is taken back between two tries", async () => {
        await open();
        const stop = world.homeserver.intercept((request) => (isSend(request) ? { status: 503, body: {} } : undefined));
        const unwanted = media.send({ ...silent(), id: "unwanted" });
        const refusal = code(unwanted);
        const after = media.send(textMessage(roomId, alice, "after"));
        await until(() => world.homeserver.requests.some(isSend));
        stop();
        const cancelled = media.cancelMessage("unwanted");
        await cancelled;
        // Either it was still outside, or it had just got in: never both.
        const outcome = await refusal;
        await after;
        expect(bodies(world.homeserver, roomId)).to.deep.equal(
            outcome === "CANCELLED" ? ["after"] : ["cat.jpg", "after"],
        );
        expect(outcome).to.equal("CANCELLED");
    });

    it("one whose answer was lost has arrived: it is found, and redacted", async () => {
        await open();
        let lost = 0;
        world.homeserver.intercept((request) => (isSend(request) && lost++ === 0 ? { drop: "after" } : undefined));
        const sending = media.send({ ...silent(), id: "unwanted" });
        await until(() => lost === 1);
        await media.cancelMessage("unwanted", { redact: true });
        const sent = await sending;
        expect(await code(first(sent)?.done)).to.equal("CANCELLED");
        await until(() => redactions().length === 1);
        expect(redactions()[0]?.redacts).to.equal(sent.eventId);
        expect(world.homeserver.requests.filter(isSend)).to.have.length(1);
    });

    it("likewise one without files", async () => {
        await open();
        let lost = 0;
        world.homeserver.intercept((request) => (isSend(request) && lost++ === 0 ? { drop: "after" } : undefined));
        const sending = media.send(textMessage(roomId, alice, "unwanted", { id: "unwanted" }));
        await until(() => lost === 1);
        await media.cancelMessage("unwanted", { redact: true });
        const sent = await sending;
        await until(() => redactions().length === 1);
        expect(redactions()[0]?.redacts).to.equal(sent.eventId);
    });

    it("what was taken back stays so after a restart, before its lane could tell", async () => {
        await open();
        const stop = world.homeserver.intercept(({ path }) =>
            path.includes("/send/") || path.includes("/messages") ? { drop: "before" } : undefined,
        );
        const refusal = code(media.send({ ...silent(), id: "unwanted" }));
        await until(() => world.homeserver.requests.some(({ path }) => path.includes("/messages")));
        const cancelling = code(media.cancelMessage("unwanted"));
        await media.close();
        expect(await refusal).to.equal("CLOSED");
        expect(await cancelling).to.equal("CLOSED");
        stop();
        media = world.component();
        await media.start();
        expect(await code(media.send({ ...silent(), id: "unwanted" }))).to.equal("CANCELLED");
        await media.send(textMessage(roomId, alice, "after"));
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["after"]);
    });

    /** Taken back while its answer is lost and nobody can be asked, and the process ends. */
    async function endTakenBack(message: RemoteMessage, redact: boolean): Promise<void> {
        const { stop, sending } = await beginInDoubt(world.homeserver, () => media.send(message));
        const taking = code(media.cancelMessage(message.id, { redact }));
        await media.close();
        expect(await Promise.all([sending, taking])).to.deep.equal(["CLOSED", "CLOSED"]);
        stop();
        media = world.component();
        await media.start();
    }

    for (const redact of [true, false]) {
        it(`what was taken back and had arrived ${redact ? "is redacted" : "is told"} after a restart, without its file`, async () => {
            await open();
            await endTakenBack({ ...silent(), id: "unwanted" }, redact);
            const [photo] = messages(world.homeserver, roomId);
            if (redact) await until(() => redactions().length === 1);
            else await until(() => shown(photo?.event_id ?? "")?.["msgtype"] === "m.notice");
            const states = [];
            for await (const { state } of media.jobs()) states.push(state);
            expect(states).to.deep.equal(["cancelled"]);
            expect(remote.requests, "of its file").to.have.length(0);
        });
    }

    it("likewise one without files, with nothing else to look at", async () => {
        await open();
        await endTakenBack(textMessage(roomId, alice, "unwanted"), true);
        await until(() => redactions().length === 1);
    });

    it("one that a former process may have sent is looked for before it is called unsent", async () => {
        await open();
        const stop = await endInDoubt(world.homeserver, media, () => media.send({ ...silent(), id: "unwanted" }));
        stop();
        media = world.component();
        await media.start();
        await media.cancelMessage("unwanted", { redact: true });
        await until(() => redactions().length === 1);
        expect((await media.send({ ...silent(), id: "unwanted" })).eventId).to.equal(redactions()[0]?.redacts);
    });

    it("a file that is cancelled before its event is found again is told as gone", async () => {
        await open();
        const stop = await endInDoubt(world.homeserver, media, () => media.send({ ...silent(), id: "photo" }));
        media = world.component();
        await media.start();
        for await (const { id } of media.jobs()) await media.cancel(id);
        stop();
        const { eventId } = await media.send({ ...silent(), id: "photo" });
        expect(messages(world.homeserver, roomId)[0]?.content, "as it was sent").to.have.property("url");
        await until(() => shown(eventId) !== undefined);
        expect(shown(eventId)).to.include({ msgtype: "m.notice" });
    });

    it("an edit that is found again says what it said: a file that comes after all is shown", async () => {
        await open();
        let isThere = false;
        const answer = (_: unknown, response: ServerResponse) =>
            isThere ? response.end(someBytes(100)) : response.writeHead(404).end();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url: remote.on("/late", answer) }));
        await until(() => shown(sent.eventId)?.["msgtype"] === "m.notice");
        const stop = await endInDoubt(world.homeserver, media, () =>
            media.edit(sent.id, { id: "edit", content: image("two") }),
        );
        media = world.component();
        await media.start();
        stop();
        await media.edit(sent.id, { id: "edit", content: image("two") });
        isThere = true;
        await media.retry(first(sent)?.jobId ?? "");
        await until(() => shown(sent.eventId)?.["url"] !== undefined);
    });

    it("redacted, nothing of it is left to read: its remote edits and its notice are redacted too, before it", async () => {
        await open();
        const url = remote.on("/gone", (_request, response) => response.writeHead(404).end());
        const sent = await media.send({ ...photoMessage(roomId, alice, { kind: "http", url }), id: "unwanted" });
        await media.edit("unwanted", { id: "first edit", content: image("a secret") });
        await first(sent)?.done.catch(() => {});
        const said = () => messages(world.homeserver, roomId).filter(({ content }) => "body" in content);
        await until(() => said().some(({ content }) => JSON.stringify(content).includes("m.notice")));
        let isDown = true;
        world.homeserver.intercept((request) => (isDown && isSend(request) ? { drop: "before" } : undefined));
        // One that stands in the line when it is taken back.
        const late = media.edit("unwanted", { id: "late edit", content: image("another secret") }).catch(() => {});
        await until(() => world.homeserver.requests.some((request) => isSend(request) && request.status === 0));
        const cancelled = media.cancelMessage("unwanted", { redact: true });
        isDown = false;
        await Promise.all([late, cancelled]);
        await until(() => redactions().some(({ redacts }) => redacts === sent.eventId));
        expect(redactions().at(-1)?.redacts, "itself last").to.equal(sent.eventId);
        expect(said()).to.deep.equal([]);
        expect(JSON.stringify(messages(world.homeserver, roomId))).to.not.contain("secret");
    });

    const looks = (): number => world.homeserver.requests.filter(({ path }) => path.includes("/messages")).length;
    const isRedact = ({ path }: { path: string }): boolean => path.includes("/redact/");

    it("redacted with its edits, each of them once, whichever answers are lost", async () => {
        await open();
        const sent = await media.send(textMessage(roomId, alice, "one", { id: "one" }));
        const editIds: string[] = [];
        for (const id of ["first edit", "second edit"])
            editIds.push((await media.edit("one", { id, content: { msgtype: "m.text", body: id } })).eventId);
        // The second edit's answer is lost; the message's own redaction does not arrive at first.
        const losses = [undefined, { drop: "after" }, { drop: "before" }] as const;
        let count = 0;
        world.homeserver.intercept((request) => (isRedact(request) ? losses[count++] : undefined));
        await media.cancelMessage("one", { redact: true });
        await until(() => redactions().some(({ redacts }) => redacts === sent.eventId));
        await media.send(textMessage(roomId, alice, "behind it"));
        expect(count, "requests, with the one that never arrived").to.equal(4);
        expect(redactions().map(({ redacts }) => redacts)).to.deep.equal([...editIds, sent.eventId]);
    });

    it("likewise across a restart, without a look for those behind one that was not sent", async () => {
        await open();
        const sent = await media.send(textMessage(roomId, alice, "one", { id: "one" }));
        const editIds: string[] = [];
        for (const id of ["first edit", "second edit", "third edit"])
            editIds.push((await media.edit("one", { id, content: { msgtype: "m.text", body: id } })).eventId);
        const stop = world.homeserver.intercept((request) => {
            if (isRedact(request)) return { drop: "after" };
            return request.path.includes("/messages") ? { drop: "before" } : undefined;
        });
        await media.cancelMessage("one", { redact: true });
        await until(() => world.homeserver.requests.some(({ path }) => path.includes("/messages")));
        await media.close();
        stop();
        const looksBefore = looks();
        media = world.component();
        await media.start();
        await until(() => redactions().some(({ redacts }) => redacts === sent.eventId));
        await media.send(textMessage(roomId, alice, "behind it"));
        expect(redactions().map(({ redacts }) => redacts)).to.deep.equal([...editIds, sent.eventId]);
        // Two pages each for the message's own redaction and the second edit's, and one for the first edit's.
        expect(looks() - looksBefore).to.equal(5);
    });

    it("likewise an edit that is found again after a restart, its message redacted meanwhile", async () => {
        await open();
        const sent = await media.send(textMessage(roomId, alice, "one", { id: "one" }));
        const edit = { id: "edit", content: { msgtype: "m.text", body: "a secret" } };
        const { stop, sending } = await beginInDoubt(world.homeserver, () => media.edit("one", edit));
        await media.cancelMessage("one", { redact: true });
        await media.close();
        expect(await sending).to.equal("CLOSED");
        stop();
        media = world.component();
        await media.start();
        await until(() => redactions().some(({ redacts }) => redacts === sent.eventId));
        expect(JSON.stringify(messages(world.homeserver, roomId))).to.not.contain("secret");
        const found = await media.edit("one", edit).catch(({ code }: MediaError) => code);
        expect(found, "called again").to.equal("CANCELLED");
    });

    it("cancelMessage() of a message with several files ends all of them", async () => {
        await open();
        const sent = await media.send({
            ...silent(),
            media: [
                { at: ["url"], source: { kind: "http", url: remote.on("/never", () => {}) } },
                { at: ["info", "thumbnail_url"], source: { kind: "http", url: `${remote.url}/never` } },
            ],
        });
        await until(() => remote.requests.length === 2);
        await media.cancelMessage(sent.id);
        for (const { done } of sent.uploads) expect(await code(done)).to.equal("CANCELLED");
        expect((await until(() => shown(sent.eventId)))["msgtype"]).to.equal("m.notice");
        expect(redactions()).to.have.length(0);
    });

    it("nobody can take back or edit what was never sent here, and edits are checked at the door", async () => {
        await open();
        expect(await code(media.cancelMessage("nothing"))).to.equal("MESSAGE_UNKNOWN");
        expect(await code(media.edit("nothing", { id: "e", content: {} }))).to.equal("MESSAGE_UNKNOWN");
        await media.send(textMessage(roomId, alice, "one", { id: "one" }));
        const wrong = { id: "e", content: {}, media: [] };
        expect(await code(media.edit("one", wrong))).to.equal("INVALID_ARGUMENT");
        expect(await code(media.edit("one", { id: "", content: {} }))).to.equal("INVALID_ARGUMENT");
        await media.cancelMessage("one", { redact: true });
        expect(await code(media.edit("one", { id: "e", content: {} }))).to.equal("CANCELLED");
    });

    it("an edit has an id of its own: that of a message, or of another message's edit, is refused by name", async () => {
        await open();
        const edit = (of: string, id: string) =>
            media.edit(of, { id, content: { msgtype: "m.text", body: "three" } }).then(
                () => undefined,
                ({ code, field }: MediaError) => [code, field],
            );
        const refused = ["INVALID_ARGUMENT", "id"];
        for (const id of ["one", "two"]) {
            const sending = media.send(textMessage(roomId, alice, id, { id }));
            expect(await edit(id, id), "while it is being sent").to.deep.equal(refused);
            if (id === "two") expect(await edit("one", "two"), "another one that is being sent").to.deep.equal(refused);
            await sending;
        }
        await media.edit("one", { id: "edit", content: { msgtype: "m.text", body: "one!" } });
        const wrong = [
            ["one", "one"],
            ["one", "two"],
            ["two", "edit"],
            ["edit", "edit"],
            ["edit", "one"],
            ["nothing", "nothing"],
        ] as const;
        for (const [of, id] of wrong) expect(await edit(of, id), `${id} of ${of}`).to.deep.equal(refused);
        expect(messages(world.homeserver, roomId).map(({ content }) => content["body"])).to.deep.equal([
            "one",
            "two",
            "* one!",
        ]);
    });

    it("a warning says which call came again with another content", async () => {
        await open();
        await media.close();
        const warnings: string[] = [];
        const warn = (text: string): void => void warnings.push(text);
        media = world.component({ logger: { debug() {}, info() {}, warn, error: warn } });
        await media.start();
        for (const body of ["one", "two"]) {
            const content = { msgtype: "m.text", body };
            const message = textMessage(roomId, alice, body, { id: "id" });
            // Once while it is under way, once when it is known.
            await Promise.all([media.send(message), media.send({ ...message, content: { body: "other" } })]);
            const edit = media.edit("id", { id: "edit", content });
            await Promise.all([edit, media.edit("id", { id: "edit", content: { body: "other" } })]);
        }
        const again = "was called again with a known id but another content: the first one stands";
        const calls = ["send()", "edit()", "send()", "send()", "edit()", "edit()"];
        expect(warnings).to.deep.equal(calls.map((call) => `${call} ${again}`));
    });

    for (const place of ["first", "second"])
        it(`an edit that is taken back as the ${place} of its line says nothing in a later notice`, async () => {
            await open();
            const { url, fail } = vanishing();
            const photo = photoMessage(roomId, alice, { kind: "http", url }, { id: "photo", content: image("one") });
            const sent = await media.send(photo);
            let isDown = true;
            world.homeserver.intercept((request) =>
                isDown && isSend(request) ? { status: 503, body: {} } : undefined,
            );
            const ahead = place === "first" ? undefined : media.send(textMessage(roomId, alice, "ahead"));
            const editing = code(media.edit("photo", { id: "edit", content: image("two") }));
            await until(() => world.homeserver.requests.filter(isSend).length > 1);
            const taking = media.cancelMessage("edit");
            expect(await editing).to.equal("CANCELLED");
            isDown = false;
            await Promise.all([taking, ahead]);
            await until(() => remote.requests.length > 0);
            fail();
            const notice = await until(() => shown(sent.eventId));
            expect(notice).to.include({ msgtype: "m.notice" });
            expect(notice["body"]).to.include("one").and.not.include("two");
        });

    it("an edit that is redacted says nothing in a later notice, and a notice that says it is edited", async () => {
        await open();
        const { url, fail } = vanishing();
        const send = (id: string) =>
            media.send(photoMessage(roomId, alice, { kind: "http", url }, { id, content: image("one") }));
        const noticed = (eventId: string, text: string) =>
            until(() => {
                const { msgtype, body } = shown(eventId) ?? {};
                return msgtype === "m.notice" && String(body).endsWith(text);
            });
        const before = await send("before");
        await media.edit("before", { id: "edit before", content: image("a secret") });
        await media.cancelMessage("edit before", { redact: true });
        await until(() => redactions().length === 1);
        await until(() => remote.requests.length === 1);
        fail();
        await noticed(before.eventId, "\n\none");

        const after = await send("after");
        await media.edit("after", { id: "edit after", content: image("a secret") });
        await until(() => remote.requests.length === 2);
        fail();
        await noticed(after.eventId, "\n\na secret");
        await media.cancelMessage("edit after", { redact: true });
        await noticed(after.eventId, "\n\none");
    });

    it("an edit that is redacted brings up the one before it, each in its turn, and the original last", async () => {
        await open();
        const source = { kind: "http", url: remote.file(someBytes(1000)) } as const;
        const sent = await media.send(photoMessage(roomId, alice, source, { id: "photo", content: image("one") }));
        for (const text of ["two", "three"]) await media.edit("photo", { id: text, content: image(text) });
        for (const [redacted, before] of [
            ["three", "two"],
            ["two", "one"],
        ] as const) {
            const { length } = messages(world.homeserver, roomId);
            await media.cancelMessage(redacted, { redact: true });
            await until(() => messages(world.homeserver, roomId).length > length, { what: "an edit behind it" });
            expect(shown(sent.eventId)).to.deep.equal({ ...image(before), url: first(sent)?.contentUri });
        }
    });

    it("a notice that is worked out while an edit is on its way to the disk says what the edit says", async () => {
        await open();
        await media.close();
        const held = deferred();
        let isHeld = false;
        class Held extends LevelStore {
            override async commit(writes: readonly Write[]): Promise<void> {
                if (writes.some(({ collection, record }) => collection === EDITED && record !== undefined)) {
                    isHeld = true;
                    await held.promise;
                }
                return super.commit(writes);
            }
        }
        media = world.component({ store: (directory) => new Held(directory) });
        await media.start();
        const { url, fail } = vanishing();
        const photo = photoMessage(roomId, alice, { kind: "http", url }, { id: "photo", content: image("one") });
        const sent = await media.send(photo);
        await until(() => remote.requests.length > 0);
        const editing = media.edit("photo", { id: "edit", content: image("two") });
        await until(() => isHeld);
        fail();
        await first(sent)?.done.catch(() => {});
        // The way of a message into its room, in another one: as long as a notice takes into its line.
        await media.send(textMessage(await world.room(alice), alice, "elsewhere"));
        held.resolve();
        await editing;
        await media.send(textMessage(roomId, alice, "behind all of it"));
        expect(shown(sent.eventId)).to.include({ msgtype: "m.notice" });
        expect(shown(sent.eventId)?.["body"]).to.include("two");
    });

    it("a notice that stands behind an edit in the line is what the room shows: a file that is tried again is shown", async () => {
        await open();
        let answer: (() => void) | undefined;
        const url = remote.on("/late", (_request, response) => {
            const isFirst = answer === undefined;
            answer = () => (isFirst ? response.writeHead(404).end() : response.end(someBytes(100)));
        });
        const { sent, ahead, editing, goOn } = await heldUp(url, "two");
        answer?.();
        await first(sent)?.done.catch(() => {});
        await aNoticesWay();
        await media.retry(first(sent)?.jobId ?? "");
        await until(() => remote.requests.length === 2);
        goOn();
        await Promise.all([ahead, editing, media.send(textMessage(roomId, alice, "behind all of it"))]);
        expect(shown(sent.eventId)).to.include({ msgtype: "m.notice" });
        answer?.();
        await until(() => shown(sent.eventId)?.["msgtype"] !== "m.notice");
        expect(shown(sent.eventId)).to.deep.equal({ ...image("two"), url: first(sent)?.contentUri });
    });

    it("a notice that still stands in the line when its message is redacted is not said, nor what an edit there said", async () => {
        await open();
        const { url, fail } = vanishing();
        const { sent, ahead, editing, goOn } = await heldUp(url, "a secret");
        fail();
        await first(sent)?.done.catch(() => {});
        await aNoticesWay();
        await media.cancelMessage("photo", { redact: true });
        goOn();
        expect(await code(editing)).to.equal("CANCELLED");
        await ahead;
        await until(() => redactions().length > 0);
        await media.send(textMessage(roomId, alice, "behind all of it"));
        expect(redactions().map(({ redacts }) => redacts)).to.deep.equal([sent.eventId]);
    });

    it("an edit of a message that is just being sent stands behind it, with the same file", async () => {
        await open();
        let down = true;
        world.homeserver.intercept((request) => (down && isSend(request) ? { status: 503, body: {} } : undefined));
        const bytes = someBytes(1000);
        const sending = media.send(
            photoMessage(roomId, alice, { kind: "buffer", data: bytes }, { id: "photo", content: image("one") }),
        );
        const editing = media.edit("photo", { id: "edit", content: image("two"), timestamp: 1_700_000_000_000 });
        const later = media.send(textMessage(roomId, alice, "later"));
        await until(() => world.homeserver.requests.some(isSend));
        down = false;
        const [sent, edited] = await Promise.all([sending, editing, later]);
        const all = messages(world.homeserver, roomId);
        expect(all.map(({ content }) => content["body"])).to.deep.equal(["one", "* two", "later"]);
        expect(all[1]).to.include({ event_id: edited.eventId, sender: alice, origin_server_ts: 1_700_000_000_000 });
        expect(shown(sent.eventId)).to.deep.equal({ ...image("two"), url: first(sent)?.contentUri });
        await first(sent)?.done;
        expect((await download(world.homeserver, String(shown(sent.eventId)?.["url"]))).body.equals(bytes)).to.equal(
            true,
        );

        // The same edit again, and an edit of the edit.
        expect(
            await media.edit("photo", { id: "edit", content: image("two"), timestamp: 1_700_000_000_000 }),
        ).to.deep.equal(edited);
        await media.edit("edit", { id: "edit 2", content: image("three") });
        expect(shown(sent.eventId)?.["body"]).to.equal("three");
        expect(messages(world.homeserver, roomId)).to.have.length(4);
    });

    it("calls that were not awaited keep their order, edits of sent messages among them", async () => {
        await open();
        await media.send(textMessage(roomId, alice, "one", { id: "one" }));
        await media.send(textMessage(roomId, alice, "two", { id: "two" }));
        const say = (body: string) => ({ msgtype: "m.text", body });
        const calls = [
            media.edit("one", { id: "edit 1", content: say("1") }),
            media.send(textMessage(roomId, alice, "three", { id: "three" })),
            media.edit("three", { id: "edit 3", content: say("3") }),
            media.edit("unknown", { id: "edit of nothing", content: say("?") }).catch(() => {}),
            media.edit("two", { id: "edit 2", content: say("2") }),
            media.send(textMessage(roomId, alice, "four")),
        ];
        await Promise.all(calls);
        const bodies = messages(world.homeserver, roomId).map(({ content }) => content["body"]);
        expect(bodies).to.deep.equal(["one", "two", "* 1", "three", "* 3", "* 2", "four"]);
    });

    it("an edit survives a restart, and what is said later of the file starts from it", async () => {
        await open();
        const sent = await media.send(
            photoMessage(
                roomId,
                alice,
                { kind: "http", url: remote.on("/late", (_request, response) => response.writeHead(404).end()) },
                { content: image("one") },
            ),
        );
        await until(() => shown(sent.eventId)?.["msgtype"] === "m.notice");
        const stop = world.homeserver.intercept((request) => (isSend(request) ? { status: 503, body: {} } : undefined));
        const editing = code(media.edit(sent.id, { id: "edit", content: image("two") }));
        await until(() => world.homeserver.requests.at(-1)?.status === 503);
        await media.close();
        expect(await editing).to.equal("CLOSED");
        stop();
        media = world.component();
        await media.start();
        await media.edit(sent.id, { id: "edit", content: image("two") });
        expect(String(shown(sent.eventId)?.["body"])).to.match(/could not be bridged.*\n\ntwo$/s);
        remote.on("/late", (_request, response) => response.end(someBytes(10)));
        await media.retry(first(sent)?.jobId ?? "");
        await until(() => shown(sent.eventId)?.["msgtype"] === "m.image");
        expect(shown(sent.eventId)?.["body"]).to.equal("two");
    });

    it("what an edit has said already is not said again when the file comes", async () => {
        await open();
        let come: (() => void) | undefined;
        let asked = 0;
        const url = remote.on("/late", (_request, response) => {
            if (asked++ === 0) response.writeHead(404).end();
            else come = () => response.end(someBytes(10));
        });
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }, { content: image("one") }));
        await until(() => shown(sent.eventId)?.["msgtype"] === "m.notice");
        await media.retry(first(sent)?.jobId ?? "");
        await until(() => come);
        await media.edit(sent.id, { id: "edit", content: image("two") });
        const count = messages(world.homeserver, roomId).length;
        come?.();
        await first(sent)?.done.catch(() => {});
        await until(() => world.homeserver.media(first(sent)?.contentUri ?? ""));
        await media.send(textMessage(roomId, alice, "later"));
        await media.send(textMessage(roomId, alice, "last"));
        expect(messages(world.homeserver, roomId)).to.have.length(count + 2);
    });

    it("an edit of a message that is taken back before it was sent is not sent either", async () => {
        await open();
        let down = true;
        world.homeserver.intercept((request) => (down && isSend(request) ? { status: 503, body: {} } : undefined));
        const before = media.send(textMessage(roomId, alice, "before"));
        const unwanted = code(media.send({ ...silent(), id: "unwanted" }));
        const editing = code(media.edit("unwanted", { id: "edit", content: image("two") }));
        await until(() => world.homeserver.requests.some(isSend));
        await media.cancelMessage("unwanted");
        down = false;
        await before;
        expect(await unwanted).to.equal("CANCELLED");
        expect(await editing).to.equal("CANCELLED");
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["before"]);
        expect(edits(world.homeserver, roomId).size).to.equal(0);
    });
});
