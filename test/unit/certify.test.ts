import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { BridgeMedia, MediaError } from "../../src/index.ts";
import { loadConnector, loadStore } from "../../src/testing/certify/candidates.ts";
import { certify, type CertifyOptions } from "../../src/testing/certify/certify.ts";
import {
    bytesOf,
    captionOf,
    editedCaptionOf,
    GHOSTS,
    type PlannedMessage,
    roomsOf,
} from "../../src/testing/certify/messages.ts";
import { type Deed, isDeed, type Planned, planned } from "../../src/testing/certify/deeds.ts";
import { READER } from "../../src/testing/certify/doing.ts";
import { wrongPictures } from "../../src/testing/certify/pictures.ts";
import { Profiles } from "../../src/testing/certify/recorder/profiles.ts";
import { isSigned, signedPath } from "../../src/testing/certify/recorder/signature.ts";
import type { ExpectedDeed } from "../../src/testing/certify/sequels.ts";
import { Random } from "../../src/testing/certify/random.ts";
import { Media } from "../../src/testing/certify/recorder/media.ts";
import { Network } from "../../src/testing/certify/recorder/network.ts";
import { reportOf } from "../../src/testing/certify/report.ts";
import { Rooms } from "../../src/testing/certify/recorder/rooms.ts";
import { describe as nameOf, nextMoment } from "../../src/testing/certify/schedule.ts";
import { verdict } from "../../src/testing/certify/verdict.ts";
import { workOf } from "../../src/testing/certify/work-left.ts";
import type { Job } from "../../src/uploads/job.ts";
import { someJob } from "../support/job.ts";
import { plainBridge } from "../support/world.ts";

/** What judges the others is judged here: each thing that a recorder can have seen and must not. */
describe("the certification's verdict", () => {
    const [room, , encrypted] = roomsOf(1);
    const [sender] = GHOSTS;
    const text = (number: number): PlannedMessage => ({
        id: `m${number}`,
        number,
        room,
        sender,
        files: [],
        once: false,
    });
    const withFile = (number: number, kind: "plain" | "missing"): PlannedMessage => ({
        ...text(number),
        files: [{ at: ["url"], kind, name: `file-${number}` }],
    });
    let rooms: Rooms;
    let media: Media;
    let network: Network;
    beforeEach(() => {
        rooms = new Rooms();
        media = new Media();
        network = new Network();
    });

    function accept(id: string, content: object = {}, transactionId = id, roomId: string = room): string {
        const all = { msgtype: "url" in content ? "m.file" : "m.text", body: captionOf(id), ...content };
        return rooms.accept({ room_id: roomId, type: "m.room.message", sender, content: all, transactionId });
    }
    function filled(bytes: Buffer | undefined): string {
        const uri = String(media.create(sender, undefined, false).body["content_uri"]);
        if (bytes !== undefined) media.fill(uri.split("/").at(-1) ?? "", sender, bytes);
        return uri;
    }
    const judge = (...expected: [PlannedMessage, boolean?][]): string =>
        verdict(
            { rooms, media, network },
            roomsOf(1),
            expected.map(([planned, isCertain = true]) => ({ planned, isCertain })),
            ({ name }) => bytesOf(name),
        ).join("; ");

    it("finds nothing where everything is as it was promised", () => {
        accept("m1");
        accept("m2", { url: filled(bytesOf("file-2")) });
        const failed = accept("m3", { url: filled(undefined) });
        const notice = { msgtype: "m.notice", body: `gone\n\n${captionOf("m3")}` };
        accept("m3", { "m.new_content": notice, "m.relates_to": { rel_type: "m.replace", event_id: failed } }, "edit");
        expect(judge([text(1)], [withFile(2, "plain")], [withFile(3, "missing")], [text(4), false])).to.equal("");
    });

    it("finds what is missing, what came twice, and what stands in the wrong place", () => {
        accept("m2");
        accept("m1");
        accept("m1", {}, "another");
        expect(judge([text(1)], [text(2)], [text(3)])).to.match(
            /m1 stands behind m2.*m1 is in its room 2 times.*m3 was journaled/,
        );
    });

    it("finds a transaction that was sent twice", () => {
        accept("m1");
        accept("m1");
        expect(judge([text(1)])).to.include("was sent before");
    });

    it("finds files that are not there, are others, or are told as lost for no reason", () => {
        accept("m1", { url: filled(undefined) });
        accept("m2", { url: filled(bytesOf("another")) });
        accept("m3", { msgtype: "m.notice" });
        accept("m4", { url: filled(undefined) });
        const found = judge(
            [withFile(1, "plain")],
            [withFile(2, "plain")],
            [withFile(3, "plain")],
            [withFile(4, "missing")],
        );
        expect(found).to.match(/m1: .*no content.*m2: .*other bytes.*m3: .*told that it cannot.*m4: .*not told/);
    });

    it("finds an event in the clear", () => {
        accept("m1", {}, "m1", encrypted);
        expect(judge()).to.include(`in ${encrypted} is sent as m.room.message`);
    });

    it("finds an encrypted message whose file has an address in the clear as well", () => {
        const file = { url: "mxc://certify.example/media1" };
        const content = { msgtype: "m.file", body: captionOf("m1"), file, info: { thumbnail_url: file.url } };
        const ciphertext = Buffer.from(JSON.stringify({ type: "m.room.message", content })).toString("base64");
        const event = { room_id: encrypted, type: "m.room.encrypted", sender, transactionId: "m1" };
        rooms.accept({ ...event, content: { ciphertext } });
        expect(judge([{ ...withFile(1, "plain"), room: encrypted }])).to.include("stands there as a plain one");
    });

    it("finds a message that is shown as something else, or is sent as an event of another kind", () => {
        accept("m1", { msgtype: "m.image" });
        rooms.accept({ room_id: room, type: "m.sticker", sender, content: { body: "?" }, transactionId: "m2" });
        expect(judge([text(1)])).to.match(/is sent as m\.sticker.*m1 is shown as m\.image/);
    });

    it("finds encrypted events and files that nobody can read", () => {
        const encryptedEvent = (id: string, ciphertext: string): void => {
            const event = { room_id: encrypted, type: "m.room.encrypted", sender, transactionId: id };
            rooms.accept({ ...event, content: { ciphertext } });
        };
        encryptedEvent("m1", "not JSON");
        const hash = createHash("sha256").update("file").digest("base64").replace(/=+$/, "");
        const file = { url: filled(Buffer.from("file")), hashes: { sha256: hash } };
        const content = { msgtype: "m.file", body: captionOf("m2"), file };
        encryptedEvent("m2", Buffer.from(JSON.stringify({ type: "m.room.message", content })).toString("base64"));
        expect(judge([{ ...withFile(2, "plain"), room: encrypted }])).to.match(/is nobody's.*m2: .*other bytes/);
    });

    it("finds edits of nothing, of another message, and by another sender", () => {
        const edit = (id: string, target: string, by: string = sender): void => {
            const content = {
                body: captionOf(id),
                "m.new_content": { msgtype: "m.text", body: captionOf(id) },
                "m.relates_to": { rel_type: "m.replace", event_id: target },
            };
            const transactionId = `edit of ${id} ${target} ${by}`;
            rooms.accept({ room_id: room, type: "m.room.message", sender: by, content, transactionId });
        };
        const target = accept("m1");
        edit("m1", target);
        expect(judge([text(1)])).to.equal("");
        edit("m1", "$nowhere");
        edit("m2", target);
        edit("m1", target, GHOSTS[1]);
        expect(judge([text(1)])).to.match(/edits \$nowhere.*makes another message of.*edits another sender's/);
    });

    const done = (deed: Deed, end?: string, isCertain = true): ExpectedDeed => ({ deed, isCertain, end });
    const deed = (does: "edit" | "redact", number: number, of: PlannedMessage): Deed => ({
        id: `d${number}`,
        number,
        once: false,
        when: "said",
        does,
        of,
    });
    const fileDeed = (does: "cancel" | "retry", number: number, of: PlannedMessage): Deed => ({
        id: `d${number}`,
        number,
        once: false,
        when: "ended",
        does,
        of,
        at: ["url"],
    });
    const judgeDone = (planned: PlannedMessage, deeds: readonly ExpectedDeed[]): string =>
        verdict({ rooms, media, network }, roomsOf(1), [{ planned, isCertain: true, deeds }], ({ name }) =>
            bytesOf(name),
        ).join("; ");
    function edit(target: string, id: string, body: string, transactionId: string, mentions = true): string {
        const content = {
            msgtype: "m.text",
            body: `* ${body}`,
            ...(mentions && { "m.mentions": { user_ids: [READER] } }),
            "m.new_content": { msgtype: "m.text", body },
            "m.relates_to": { rel_type: "m.replace", event_id: target },
        };
        return accept(id, content, transactionId);
    }
    function redact(target: string, transactionId: string): void {
        const event = { room_id: room, type: "m.room.redaction", sender, content: {}, transactionId };
        rooms.accept({ ...event, redacts: target });
    }

    it("finds an edit that is not there, came twice, went back, or stands in the wrong place", () => {
        const [first, second] = [deed("edit", 2, text(1)), deed("edit", 3, text(1))];
        const target = accept("m1");
        edit(target, "m1", editedCaptionOf("m1", "d2"), "d2");
        edit(target, "m1", editedCaptionOf("m1", "d3"), "d3");
        expect(judgeDone(text(1), [done(first, "edited"), done(second, "edited")])).to.equal("");
        edit(target, "m1", editedCaptionOf("m1", "d3"), "its notice", false);
        expect(judgeDone(text(1), [done(first, "edited"), done(second, "edited")])).to.equal("");
        expect(judgeDone(text(1), [done(first), done(second), done(deed("edit", 4, text(1)), "edited")])).to.include(
            "m1 was not edited by d4",
        );
        expect(judgeDone(text(1), [done(second, "edited")])).to.include("edited by d2, which is no edit of it");
        edit(target, "m1", editedCaptionOf("m1", "d2"), "d2 again");
        expect(judgeDone(text(1), [done(first), done(second)])).to.match(
            /says again what d2 said.*edited by d2 2 times/,
        );
    });

    it("finds an edit that was told at once and stands behind what was said after it", () => {
        const target = accept("m1");
        accept("m3");
        edit(target, "m1", editedCaptionOf("m1", "d2"), "d2");
        const expected = [{ planned: text(1), isCertain: true, deeds: [done(deed("edit", 2, text(1)), "edited")] }];
        const all = [...expected, { planned: text(3), isCertain: true }];
        expect(verdict({ rooms, media, network }, roomsOf(1), all, ({ name }) => bytesOf(name)).join("; ")).to.include(
            "d2 stands behind m3",
        );
    });

    it("finds a message that was to be taken back and was not, or more than it", () => {
        const taken = done(deed("redact", 2, text(1)), "redacted");
        expect(judgeDone(text(1), [taken])).to.equal("");
        const target = accept("m1");
        const edited = edit(target, "m1", editedCaptionOf("m1", "d3"), "d3");
        expect(judgeDone(text(1), [taken])).to.include("m1 was taken back and is still in its room");
        redact(target, "r1");
        expect(judgeDone(text(1), [])).to.include("nobody had asked for it");
        const both = [taken, done(deed("edit", 3, text(1)), "edited")];
        expect(judgeDone(text(1), both)).to.include("is still to be read");
        redact(edited, "r1.0");
        expect(judgeDone(text(1), both)).to.equal("");
        redact(target, "r2");
        redact("$nowhere", "r3");
        expect(judgeDone(text(1), both)).to.match(/was redacted twice.*\$nowhere, which is not there/);
        edit(target, "m1", editedCaptionOf("m1", "d3"), "late");
        expect(judgeDone(text(1), both)).to.include("after it was redacted");
    });

    it("finds a file that was cancelled and is shown, and one that was tried again and is not", () => {
        const shown = withFile(1, "plain");
        accept("m1", { url: filled(bytesOf("file-1")) });
        expect(judgeDone(shown, [done(fileDeed("cancel", 2, shown), "done")])).to.equal("");
        expect(judgeDone(shown, [done(fileDeed("cancel", 2, shown), "cancelled")])).to.include("room is not told");
        const late = { ...withFile(2, "plain"), files: [{ at: ["url"], kind: "late" as const, name: "file-2" }] };
        network.file("late", "file-2", null);
        accept("m2", { msgtype: "m.notice" });
        const found = (deeds: readonly ExpectedDeed[]): string => judgeDone(late, deeds);
        expect(found([])).not.to.include("m2");
        expect(found([done(fileDeed("retry", 3, late), undefined, false)])).not.to.include("m2");
        expect(found([done(fileDeed("retry", 3, late), "retried")])).to.include("told that it cannot");
    });

    const picturing = (number: number): Deed => ({
        id: `d${number}`,
        number,
        once: true,
        when: "said",
        does: "picture",
        user: sender,
        file: { at: ["url"], kind: "plain", name: `picture-${number}` },
    });

    it("finds a picture that is another one, or was set before it was there", () => {
        const profiles = new Profiles(media);
        const wrong = (...deeds: readonly ExpectedDeed[]): string =>
            wrongPictures({ profiles, media }, [sender], deeds, ({ name }) => bytesOf(name)).join("; ");
        expect(wrong(done(picturing(1), undefined, false))).to.equal("");
        expect(wrong(done(picturing(1)))).to.include("is none, and not that of d1");
        profiles.set(sender, filled(bytesOf("picture-1")));
        expect(wrong(done(picturing(1)), done(picturing(2), undefined, false))).to.equal("");
        expect(wrong(done(picturing(1)), done(picturing(2)))).to.match(
            /d2 was never the picture of.*and not that of d2/,
        );
        profiles.set(sender, filled(undefined));
        expect(wrong(done(picturing(1)))).to.include("before it was there");
    });

    it("lets the storage take what was signed for it, and nothing else", () => {
        const url = (path: string): URL => new URL(path, "http://storage");
        const path = signedPath("secret", "PUT", "media/one", 0);
        expect(isSigned("secret", "PUT", url(path), 1)).to.equal(true);
        expect(isSigned("another", "PUT", url(path), 1)).to.equal(false);
        expect(isSigned("secret", "GET", url(path), 1)).to.equal(false);
        expect(isSigned("secret", "PUT", url(path.replace("one", "two")), 1)).to.equal(false);
        expect(isSigned("secret", "PUT", url(path), 25 * 3600_000)).to.equal(false);
        expect(isSigned("secret", "PUT", url("/media/one"), 1)).to.equal(false);
    });

    it("tells requests for the work that was left from others", () => {
        const message = {
            id: "m1",
            roomId: room,
            sender,
            eventType: "m.room.message",
            content: {},
            sequence: "1",
            transactionId: "mbm-one",
            fingerprint: "",
            state: "queued" as const,
            jobs: ["one"],
            revisions: 0,
        };
        const job = someJob({
            id: "one",
            state: "reserved",
            uploader: sender,
            source: { kind: "http", url: "http://remote/plain/file-one" },
            messageId: "m1",
            contentUri: "mxc://certify.example/media7",
        });
        const journaled = {
            messages: new Map([["m1", message]]),
            jobs: new Map([["one", job]]),
            reservations: new Set<string>(),
            marked: new Set<string>(),
            pictures: new Map<string, string>(),
            spooled: [],
            damage: [],
        };
        const isForWork = workOf(journaled, []);
        const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message`;
        expect(isForWork?.({ kind: "send", path: `${path}/mbm-one` })).to.equal(true);
        expect(isForWork?.({ kind: "send", path: `${path}/mbm-two` })).to.equal(false);
        expect(isForWork?.({ kind: "create", path: "/_matrix/media/v1/create" })).to.equal(false);
        expect(isForWork?.({ kind: "upload", path: "/_matrix/media/v3/upload/certify.example/media7" })).to.equal(true);
        expect(isForWork?.({ kind: "fetch", path: "/remote/plain/file-one" })).to.equal(true);
        const isForAddress = workOf({ ...journaled, jobs: new Map([["one", { ...job, contentUri: undefined }]]) }, []);
        expect(isForAddress?.({ kind: "create", path: "/_matrix/media/v1/create" })).to.equal(true);
        expect(isForAddress?.({ kind: "upload", path: "/_matrix/media/v3/upload" })).to.equal(true);
        expect(isForAddress?.({ kind: "upload", path: "/_matrix/media/v3/upload/a/b" })).to.equal(false);
        const done = { ...journaled, messages: new Map([["m1", { ...message, state: "sent" as const }]]) };
        const doneJob = { ...job, state: "done" as const };
        expect(workOf({ ...done, jobs: new Map([["one", doneJob]]) }, [])).to.equal(undefined);
        // What is taken back again at once may never be asked for.
        const file = withFile(1, "plain");
        expect(workOf(journaled, [deed("redact", 2, file)])).to.equal(undefined);
        const edited = { ...message, id: "d2", edits: "m1", jobs: [] };
        const withEdit = { ...journaled, messages: new Map([["d2", edited]]) };
        expect(workOf(withEdit, [])).not.to.equal(undefined);
        expect(workOf({ ...withEdit, jobs: new Map() }, [deed("redact", 3, file)])).to.equal(undefined);
        const ready = { ...done, jobs: new Map([["one", { ...job, at: ["url"], state: "ready" as const }]]) };
        expect(workOf(ready, [])).not.to.equal(undefined);
        expect(workOf(ready, [fileDeed("cancel", 2, file)])).to.equal(undefined);
        expect(workOf(journaled, [fileDeed("cancel", 2, file)]), "its event is said all the same").not.to.equal(
            undefined,
        );
        const another = { ...fileDeed("cancel", 2, file), at: ["info", "thumbnail_url"] } as Deed;
        for (const other of [another, fileDeed("retry", 2, file), deed("edit", 2, file), deed("redact", 2, text(3))])
            expect(workOf(ready, [other]), other.does).not.to.equal(undefined);
        const shared: Job = { ...job, dedupe: "file", state: "ready" };
        const withShared = (state: Job["state"]) => {
            const both = [shared, { ...shared, id: "two", state }];
            return workOf({ ...done, jobs: new Map(both.map((one) => [one.id, one])) }, []);
        };
        expect(withShared("failed")).not.to.equal(undefined);
        expect(withShared("done"), "there is nothing to be asked for").to.equal(undefined);
        const picture = { ...job, messageId: undefined, state: "ready" as const };
        const pictured = {
            ...journaled,
            messages: new Map(),
            jobs: new Map([["one", picture]]),
            pictures: new Map([[sender, "one"]]),
        };
        expect(workOf(pictured, [])).not.to.equal(undefined);
        expect(workOf(pictured, [picturing(2)])).to.equal(undefined);
    });

    it("finds a file that went to the storage after the homeserver was told", async () => {
        media.create(sender, (id) => `http://storage/${id}`, false);
        media.stored("media1");
        await media.complete("media1", sender, async () => Buffer.from("file"));
        media.stored("media1");
        expect(judge()).to.include("went to the storage again");
    });

    it("judges a schedule that follows from its seed", () => {
        const moments = (seed: number): string[] => {
            const random = new Random(seed);
            return Array.from({ length: 50 }, () => JSON.stringify(nextMoment(random, 9)));
        };
        expect(moments(1)).to.deep.equal(moments(1)).and.not.deep.equal(moments(2));
        for (let number = 0; number < 50; number++) expect(planned(1, number)).to.deep.equal(planned(1, number));
        const deeds = new Set(Array.from({ length: 500 }, (_, number) => planned(1, number)).map(doneBy));
        expect(deeds).to.include.all.keys("edit", "redact", "cancel", "retry", "picture", "message");
        const random = new Random(1);
        const names = new Set(Array.from({ length: 2000 }, () => nameOf(nextMoment(random, 9))));
        for (const kind of ["create", "send", "upload", "storage", "complete"])
            for (const phase of ["arrived", "handled", "answered"]) expect(names).to.include(`${kind} ${phase}`);
    });
});

function doneBy(item: Planned): string {
    return isDeed(item) ? item.does : "message";
}

describe("the certification's door", () => {
    const rejection = (promise: Promise<unknown>): Promise<unknown> =>
        promise.then(
            () => undefined,
            (error: unknown) => error,
        );
    const moduleOf = (text: string): string => `data:text/javascript,${encodeURIComponent(text)}`;

    const wrong: CertifyOptions[] = [
        ...[Number.NaN, 0, -1, 1.5].flatMap((value) => [{ kills: value }, { parallel: value }]),
        ...[Number.NaN, 0, -1].flatMap((value) => [{ recoveryMs: value }, { quietMs: value }]),
        ...[Number.NaN, -1].flatMap((value) => [{ seed: value }, { episode: value }]),
    ];
    for (const options of wrong) {
        const [[field, value] = []] = Object.entries(options);
        it(`refuses ${field}: ${String(value)}`, async () => {
            const error = await rejection(certify({ kills: 1, ...options }));
            expect(error).to.be.instanceOf(MediaError).with.property("code", "INVALID_OPTION");
            expect(error).to.have.property("field", field);
        });
    }

    it("does not pass where nothing was killed", () => {
        const { passed, text } = reportOf({ seed: 1, episodes: new Map(), durationMs: 0 });
        expect(passed).to.equal(false);
        expect(text).to.include("Nothing could be killed");
    });

    for (const given of ["() => {}", "() => null", "() => ({ open() {} })", "async () => ({ open() {}, commit() {} })"])
        it(`refuses a store's module that exports ${given}`, async () => {
            const url = moduleOf(`export default ${given};`);
            const error = await rejection(certify({ store: url, kills: 1 }));
            expect(error).to.be.instanceOf(TypeError);
            expect(String(error)).to.include(`${url} must export (directory) => Store`);
            const create = await loadStore(url);
            expect(() => create("anywhere")).to.throw(TypeError, url);
        });

    for (const given of ["() => {}", "() => ({ connector: {}, files: [{}] })", "() => ({ connector: { open() {} } })"])
        it(`refuses a connector's module that exports ${given}`, async () => {
            const url = moduleOf(`export default ${given};`);
            const error = await rejection(loadConnector(url));
            expect(error).to.be.instanceOf(TypeError);
            expect(String(error)).to.include(`${url} must export () => ({ connector, files })`);
        });

    it("does not take LevelDB for a store that is none", async () => {
        const bridge = plainBridge("http://127.0.0.1:9", "@bot:example.org");
        const dataDir = await mkdtemp(join(tmpdir(), "no-store-"));
        try {
            const media = new BridgeMedia(bridge, { dataDir, store: () => undefined as never });
            expect(await rejection(media.start())).to.be.instanceOf(Error);
            expect(await readdir(dataDir, { recursive: true })).not.to.include(join("journal", "CURRENT"));
        } finally {
            await rm(dataDir, { recursive: true, force: true });
        }
    });
});
