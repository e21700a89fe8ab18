import { expect } from "chai";
import type { Homeserver, StoredEvent } from "../../../src/dev/homeserver/index.ts";
import type { JobInfo, SentMessage } from "../../../src/index.ts";
import { decrypted, readable } from "../crypto.ts";
import { download, edits, messages } from "../download.ts";
import { sha256 } from "../remote.ts";
import { type Cell, type CellScene, type Outcome, shownIn } from "./cell-scene.ts";
import type { Fault } from "./faults.ts";
import type { Injection } from "./gate.ts";
import { EDIT, redactions } from "./later.ts";
import type { Step } from "./steps.ts";

/** What the homeserver's own record has to say of a cell. */

/** Whether the room gets a text when all is told, which is sent when nothing before it is in doubt any more. */
export function hasLast({ later, after }: Step): boolean {
    return later !== undefined || after === "file gone" || after === "lost address" || after === "ending address";
}

/** Whether the room has been told what has to be told after an event, or with one that waits for its file. */
export function isTold({ world, roomId, sharingRoomId }: CellScene, { step, outcome }: Cell): boolean {
    if (outcome === "file" || outcome === "picture") return true;
    if (outcome === "redacted") return redactions({ world, roomId }).length > 0;
    const rooms = step.shared === "meanwhile" ? [roomId, sharingRoomId] : [roomId];
    if (step.encrypted === undefined) return rooms.every((room) => edits(world.homeserver, room).size > 0);
    const isNotice = readable(world.homeserver, roomId)[1]?.content["msgtype"] === "m.notice";
    return outcome === "notice" ? isNotice : sealed(world.homeserver, roomId).length > 3;
}

function sealed(homeserver: Homeserver, roomId: string): StoredEvent[] {
    return homeserver.events(roomId).filter(({ type }) => type === "m.room.encrypted");
}

/** The same as `expectRoom`, for one whose member has the keys. What cannot be read before its event is told with it. */
export async function expectEncryptedRoom(
    scene: CellScene,
    { step, outcome }: Cell,
    jobs: readonly JobInfo[],
): Promise<void> {
    const { world, roomId, photo } = scene;
    expect(messages(world.homeserver, roomId), "in the clear").to.deep.equal([]);
    const edited = outcome === "file" || step.encrypted === "spool" ? 0 : 1;
    const texts = hasLast(step) ? ["after", "last"] : ["after"];
    expect(sealed(world.homeserver, roomId), "events").to.have.length(2 + texts.length + edited);
    const [before, content, ...behind] = readable(world.homeserver, roomId).map((event) => event.content);
    expect([before, ...behind].map((text) => text?.["body"])).to.deep.equal(["before", ...texts]);
    const job = jobs.find(({ roomId: of }) => of === roomId);
    if (outcome === "notice") {
        expect(job?.state).to.equal("failed");
        expect(content).to.include({ msgtype: "m.notice" });
        return;
    }
    expect(job?.state).to.equal("done");
    expect(content).to.include({ body: "cat.jpg" }).and.not.to.have.property("url");
    const file = content?.["file"] as { readonly url: string };
    const { status, body } = await download(world.homeserver, file.url, 0);
    expect(status, "download").to.equal(200);
    expect(sha256(await decrypted(body, file)), "content").to.equal(sha256(photo));
}

interface RoomExpectation {
    /** In the room's order; without one, taken back. */
    readonly bodies?: readonly (string | undefined)[];
    /** Its file may have been there already. @default false */
    readonly mayLackJob?: boolean;
}

/** Once each, in order, and the file right or the room told. */
export async function expectRoom(
    scene: CellScene,
    roomId: string,
    bytes: Buffer,
    outcome: Outcome,
    jobs: readonly JobInfo[],
    { bodies = ["before", "cat.jpg", "after"], mayLackJob = false }: RoomExpectation = {},
): Promise<void> {
    const { world } = scene;
    const shown = shownIn(scene, roomId);
    expect(
        shown.map(({ content }) => content["body"]),
        "the room",
    ).to.deep.equal(bodies);
    const photo = shown[bodies.length === 1 ? 0 : 1];
    const mxc = String(photo?.content["url"]);
    const edit = edits(world.homeserver, roomId).get(photo?.event_id ?? "");
    const edited = messages(world.homeserver, roomId).length - shown.length;
    const states = jobs.filter(({ roomId: of }) => of === roomId).map(({ state }) => state);
    if (outcome === "notice") {
        expect(states).to.deep.equal(["failed"]);
        expect(edited, "edits").to.equal(1);
        expect(edit).to.include({ msgtype: "m.notice" });
        return;
    }
    const taken = redactions({ world, roomId }).map(({ redacts }) => redacts);
    if (outcome === "redacted") {
        expect(states).to.deep.equal(["cancelled"]);
        expect(taken, "redactions").to.deep.equal([scene.editId, photo?.event_id]);
        return;
    }
    expect(taken, "redactions").to.deep.equal([]);
    const replaced = outcome === "file, by an edit" ? 1 : 0;
    expect(states.filter((state) => state === "replaced")).to.have.length(replaced);
    if (states.length === 0) expect(mayLackJob, "no job").to.equal(true);
    else expect(new Set(states.filter((state) => state !== "replaced"))).to.deep.equal(new Set(["done"]));
    const hasEdit = replaced === 1 || outcome === "edited";
    expect(edited, "edits").to.equal(hasEdit ? 1 : 0);
    if (replaced === 1) expect(edit?.["url"], "the address that was lost").not.to.equal(mxc);
    if (outcome === "edited") {
        expect(edit).to.deep.equal({ ...EDIT.content, url: mxc });
        const [last, beforeIt] = messages(world.homeserver, roomId).toReversed();
        expect(last?.content["body"]).to.equal("last");
        expect(beforeIt?.content, "the edit before the last").to.have.property("m.new_content");
    }
    const { status, body } = await download(world.homeserver, String((edit ?? photo?.content)?.["url"]), 0);
    expect(status, "download").to.equal(200);
    expect(sha256(body), "content").to.equal(sha256(bytes));
}

/** Right, and looked for by the room before the large file that it stands for. */
export async function expectThumbnail(scene: CellScene): Promise<void> {
    const { world, roomId, photo, thumbnail, homeserverGate } = scene;
    const info = shownIn(scene, roomId)[1]?.content["info"] as { readonly thumbnail_url?: string } | undefined;
    const { status, body } = await download(world.homeserver, String(info?.thumbnail_url), 0);
    expect(status, "download of the thumbnail").to.equal(200);
    expect(sha256(body), "the thumbnail").to.equal(sha256(thumbnail));
    const lengths = homeserverGate.puts.map(({ rawHeaders }) => lengthIn(rawHeaders));
    const first = [thumbnail, photo].map(({ length }) => lengths.indexOf(length));
    expect(first, "the first of each one's uploads").to.deep.equal(first.toSorted((one, other) => one - other));
}

function lengthIn(rawHeaders: readonly string[]): number {
    return Number(rawHeaders[rawHeaders.findIndex((name) => name.toLowerCase() === "content-length") + 1]);
}

/** Each call got its own event's id. */
export function expectIds(scene: CellScene, sent: readonly SentMessage[]): void {
    for (const room of new Set(sent.map(({ roomId }) => roomId)))
        expect(sent.filter(({ roomId }) => roomId === room).map(({ eventId }) => eventId)).to.deep.equal(
            shownIn(scene, room).map(({ event_id }) => event_id),
        );
}

/** A wait that was told is never undercut. */
export function expectPatience({ seen: [first = 0, second] }: Injection, { toldMs }: Fault): void {
    if (toldMs === undefined || second === undefined) return;
    expect(second - first, "wait between tries").to.be.at.least(toldMs);
}
