import { expect } from "chai";
import type { BridgeMedia, JobInfo, RemoteMessage, SentMessage } from "../../src/index.ts";
import { decrypted, standInCrypto } from "../support/crypto.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { until } from "../support/until.ts";
import { clear, clearEdit, type EncryptedFile } from "./harness/encrypted-view.ts";
import { gatedFile } from "./harness/gate.ts";
import { isUpload } from "./harness/proxy.ts";
import {
    bodies,
    bundledEdit,
    download,
    eventById,
    messages,
    mxcs,
    originals,
    related,
    reserved,
    shownInstead,
    timeline,
    untilTakenBack,
} from "./harness/room-view.ts";
import { jobsOf, uploadOf } from "./harness/sent.ts";
import { type SynapseWorld, useSynapse } from "./harness/world.ts";

/** Long enough that what is not to end does not, also on a machine that has other things to do. */
const LIFE_MS = 5000;
/** Files come one after the other, and none is reserved that no message needs. */
const IN_TURN = { concurrency: 1, smallFileConcurrency: 0, reserveAhead: 0 };

describe("Synapse: an address that ends before its file is there", () => {
    const use = useSynapse({ unusedExpirationMs: LIFE_MS });

    it("while its source was slow is replaced when the file comes: the event is edited to where it is", async () => {
        const world = use();
        const ann = world.ghost("slow_source");
        const roomId = await world.room(ann);
        const media = await world.component();
        const bytes = someBytes(200_000);
        const gate = gatedFile(world.remote, bytes, { ahead: 100_000 });
        const sent = await media.send(photoMessage(roomId, ann, { kind: "http", url: gate.url }));
        await untilTakenBack(world, uploadOf(sent).contentUri);
        expect(await related(world, roomId, sent.eventId)).to.deep.equal([]);

        gate.open();
        const info = await uploadOf(sent).done;
        await isHealed(world, media, sent, info, bytes);
        // The whole file goes out before Synapse says that the address is gone.
        expect(world.proxy.statuses(isUpload)).to.deep.equal([404, 200]);
    });

    it("while the component was down is replaced at its turn, before anything is uploaded to it", async () => {
        const world = use();
        const ann = world.ghost("downtime");
        const roomId = await world.room(ann);
        const dataDir = await world.dataDir();
        const first = await world.component({ dataDir });
        const bytes = someBytes(200_000);
        const gate = gatedFile(world.remote, bytes);
        const message = photoMessage(roomId, ann, { kind: "http", url: gate.url });
        const sent = await first.send(message);
        await until(() => gate.asked === 1);
        await first.close();
        await untilTakenBack(world, uploadOf(sent).contentUri);

        gate.open();
        const second = await world.component({ dataDir });
        // Whoever asks by the message's id hears of the file at its new address.
        const again = await second.send(message);
        await isHealed(world, second, sent, await uploadOf(again).done, bytes);
        expect(world.proxy.statuses(isUpload)).to.deep.equal([200]);
    });

    it("while its file waits for its turn is replaced ahead of its end, as often as it takes", async () => {
        const world = use();
        const ann = world.ghost("ahead");
        const roomId = await world.room(ann);
        const media = await world.component(IN_TURN);
        const stalled = gatedFile(world.remote, someBytes(10));
        const blocking = await media.send(photoMessage(roomId, ann, { kind: "http", url: stalled.url }));
        await until(() => stalled.asked === 1);
        const bytes = someBytes(50_000);
        const waiting = await media.send(photoMessage(roomId, ann, { kind: "buffer", data: bytes }));
        const edits = () => related(world, roomId, waiting.eventId);
        await until(async () => (await edits()).length === 2, { limitMs: 4 * LIFE_MS });
        await media.cancel(uploadOf(blocking).jobId);
        const info = await uploadOf(waiting).done;

        const shown = await until(async () => {
            const content = await shownInstead(world, roomId, waiting.eventId);
            return content?.["url"] === info.contentUri ? content : undefined;
        });
        expect(sha256((await download(world, String(shown["url"]))).body)).to.equal(sha256(bytes));
        // Whenever an edit came, the address that was shown until then was still good.
        const ends = reserved(world);
        let said = uploadOf(waiting).contentUri;
        for (const { origin_server_ts: at, content } of await edits()) {
            expect(at).to.be.lessThan(ends.get(said) ?? 0);
            said = urlIn(content);
        }
        expect(said).to.equal(info.contentUri);
    });

    it("heals a whole backlog after a downtime, in the order of the messages: one edit for each photo, nothing twice", async () => {
        const world = use();
        const [ann, ben] = [world.ghost("backlog_ann"), world.ghost("backlog_ben")];
        const roomId = await world.room(ann, ben);
        const dataDir = await world.dataDir();
        const first = await world.component({ dataDir, ...IN_TURN });
        const files = Array.from({ length: 6 }, () => {
            const bytes = someBytes(40_000);
            return { bytes, gate: gatedFile(world.remote, bytes) };
        });
        const batch = files.flatMap(({ gate }, index): RemoteMessage[] => {
            const content = { msgtype: "m.image", body: `photo ${index}`, info: { mimetype: "image/jpeg" } };
            return [
                photoMessage(roomId, index % 3 === 0 ? ann : ben, { kind: "http", url: gate.url }, { content }),
                textMessage(roomId, ann, `text ${index}`),
            ];
        });
        const all = await Promise.all(batch.map((message) => first.send(message)));
        await first.close();
        const sent = all.filter(({ uploads }) => uploads.length > 0);
        for (const one of sent) await untilTakenBack(world, uploadOf(one).contentUri);
        const said = await originals(world, roomId);
        expect(await messages(world, roomId)).to.have.length(batch.length);

        world.proxy.reset();
        for (const { gate } of files) gate.open();
        const second = await world.component({ dataDir, ...IN_TURN });
        await until(async () => (await jobsOf(second)).filter(({ state }) => state === "done").length === 6);
        await second.send(textMessage(roomId, ben, "live again"));

        // One address a file, one upload to it, and none to an old one.
        expect(reserved(world).size).to.equal(6);
        expect(world.proxy.statuses(isUpload)).to.deep.equal([200, 200, 200, 200, 200, 200]);
        const jobs = await jobsOf(second);
        for (const [index, one] of sent.entries()) {
            const info = jobs.find(({ id, state }) => id === successor(jobs, one) && state === "done");
            await isHealed(world, second, one, info, files[index]?.bytes);
        }
        const events = await messages(world, roomId);
        const edited = events
            .filter(({ content }) => "m.new_content" in content)
            .map(({ content }) => editedBy(content));
        expect(edited).to.deep.equal(sent.map(({ eventId }) => eventId));
        expect((await originals(world, roomId)).slice(0, -1).map(essence)).to.deep.equal(said.map(essence));
        const expected = batch.map(({ content }) => content["body"]);
        expect(await bodies(world, roomId)).to.deep.equal([...expected, "live again"]);
    });

    for (const restarted of [false, true]) {
        const when = restarted ? "over a restart" : "while nothing was sent";
        it(`and that was kept ahead of need, ${when}, is given to no message`, async () => {
            const world = use();
            const ann = world.ghost(`kept_${restarted}`);
            const roomId = await world.room(ann);
            const dataDir = await world.dataDir();
            let media = await world.component({ dataDir, reserveAhead: 2 });
            const bytes = someBytes(20_000);
            const source = { kind: "http", url: world.remote.file(bytes) } as const;
            const before = await media.send(photoMessage(roomId, ann, source));
            await uploadOf(before).done;
            const kept = await until(() => {
                const unused = [...reserved(world).keys()].filter((mxc) => mxc !== uploadOf(before).contentUri);
                return unused.length === 2 ? unused : undefined;
            });
            if (restarted) await media.close();
            for (const mxc of kept) await untilTakenBack(world, mxc);
            if (restarted) media = await world.component({ dataDir, reserveAhead: 2 });

            const sent = await media.send(photoMessage(roomId, ann, source));
            expect(kept).not.to.include(uploadOf(sent).contentUri);
            expect((await uploadOf(sent).done).contentUri).to.equal(uploadOf(sent).contentUri);
            expect(sha256((await download(world, uploadOf(sent).contentUri)).body)).to.equal(sha256(bytes));
            expect(await related(world, roomId, sent.eventId)).to.deep.equal([]);
            expect(world.proxy.statuses(isUpload)).to.deep.equal([200, 200]);
        });
    }

    it("in an encrypted room is replaced by an encrypted edit, which shows the same ciphertext under its old key", async () => {
        const world = use();
        const ann = world.ghost("encrypted_downtime");
        const roomId = await world.encryptedRoom(ann);
        const dataDir = await world.dataDir();
        const crypto = standInCrypto(roomId);
        const first = await world.component({ dataDir }, { crypto });
        const bytes = someBytes(60_000);
        const gate = gatedFile(world.remote, bytes);
        gate.open();
        world.proxy.rules = { before: (exchange) => (isUpload(exchange) ? "drop" : undefined) };
        const sent = await first.send(photoMessage(roomId, ann, { kind: "http", url: gate.url }));
        await until(() => world.proxy.exchanges.some(isUpload));
        await first.close();
        await untilTakenBack(world, uploadOf(sent).contentUri);

        world.proxy.rules = {};
        await world.component({ dataDir }, { crypto });
        await until(async () => (await related(world, roomId, sent.eventId)).length > 0);
        const [original, edit, ...more] = await timeline(world, roomId);
        expect(more).to.deep.equal([]);
        expect(edit).to.include({ type: "m.room.encrypted", sender: ann });
        expect(edit?.content).to.have.all.keys("algorithm", "ciphertext", "m.relates_to");
        expect(edit?.content["m.relates_to"]).to.deep.equal({ rel_type: "m.replace", event_id: sent.eventId });
        expect(bundledEdit(await eventById(world, roomId, sent.eventId))?.event_id).to.equal(edit?.event_id);

        const { url: old, ...secret } = clear(original).content["file"] as EncryptedFile;
        const file = clearEdit(edit)["file"] as EncryptedFile;
        expect(old).to.equal(uploadOf(sent).contentUri);
        expect(file).to.deep.equal({ ...secret, url: file.url });
        expect(file.url).not.to.equal(old);
        const { status, body } = await download(world, file.url);
        expect(status).to.equal(200);
        expect(sha256(await decrypted(body, file))).to.equal(sha256(bytes));
        expect(gate.asked, "the ciphertext was kept").to.equal(1);
    });
});

/**
 * What a client sees of an event whose address was replaced once: itself unchanged, and one edit by the same sender, to an
 * address that has the file. What the component says of it: the old job is replaced by the one that brought the file.
 */
async function isHealed(
    world: SynapseWorld,
    media: BridgeMedia,
    sent: SentMessage,
    info: JobInfo | undefined,
    bytes: Buffer | undefined,
): Promise<void> {
    const { roomId, eventId } = sent;
    const { jobId, contentUri } = uploadOf(sent);
    const shown = await until(() => shownInstead(world, roomId, eventId));
    const edits = await related(world, roomId, eventId);
    const original = await eventById(world, roomId, eventId);
    expect(edits).to.have.length(1);
    expect(edits[0]).to.include({ type: original.type, sender: original.sender });
    expect(mxcs(original.content)).to.deep.equal([contentUri]);
    expect(mxcs(shown)).to.deep.equal([info?.contentUri]);
    expect(info?.contentUri).not.to.equal(contentUri);
    expect((await download(world, contentUri, 0)).status, "the old address").to.equal(404);
    const { status, body } = await download(world, urlIn(edits[0]?.content));
    expect(status, "the new address").to.equal(200);
    expect(sha256(body)).to.equal(sha256(bytes ?? Buffer.alloc(0)));
    const old = (await jobsOf(media)).find(({ id }) => id === jobId);
    expect(old).to.include({ state: "replaced", replacedBy: info?.id });
}

function successor(jobs: readonly JobInfo[], sent: SentMessage): string | undefined {
    return jobs.find(({ id }) => id === uploadOf(sent).jobId)?.replacedBy;
}

/** The address that an edit brings. */
function urlIn(edit: Readonly<Record<string, unknown>> | undefined): string {
    return mxcs(edit?.["m.new_content"])[0] ?? "";
}

function editedBy(edit: Readonly<Record<string, unknown>>): unknown {
    return (edit["m.relates_to"] as { event_id?: string }).event_id;
}

/** What an event itself is, without what Synapse tells of its relations. */
function essence({ event_id, type, sender, content }: Awaited<ReturnType<typeof originals>>[number]) {
    return { event_id, type, sender, content };
}
