import type { StoredEvent } from "../../../src/dev/homeserver/index.ts";
import { steadyNow } from "../../../src/uploads/steady-clock.ts";
import { someBytes, startRemote } from "../remote.ts";
import { type S3, Storage } from "../storage.ts";
import { openWorld } from "../world.ts";
import type { Fault } from "./faults.ts";
import { FaultGate } from "./gate.ts";
import type { LaterScene } from "./later.ts";
import { type Certificates, ZONE } from "./network.ts";
import type { Step } from "./steps.ts";

/**
 * One cell of the matrix: one component, a homeserver, a remote network and where needed a storage, each behind a gate. A
 * room gets a text, a photo and a text; the fault meets the photo's (or, where that has none, the room's) step. Another
 * room gets the same beside it. What is asserted comes from the homeserver's own record.
 */
export type Outcome = "file" | "file, by an edit" | "notice" | "edited" | "redacted" | "picture";

export interface Cell {
    readonly fault: Fault;
    readonly step: Step;
    readonly outcome: Outcome;
}

/** Larger than what sockets hold by themselves, so that a break midway is one. */
const PHOTO_BYTES = 600_000;
const LARGE_PHOTO_BYTES = 1_300_000;
export const THUMBNAIL_BYTES = 500_000;
export const OTHER_BYTES = 20_000;

export interface CellScene extends LaterScene {
    readonly storage: Storage | undefined;
    readonly homeserverGate: FaultGate;
    readonly sourceGate: FaultGate;
    readonly bob: string;
    readonly otherRoomId: string;
    /** That shows the same photo, where the step is one of shared files. */
    readonly sharingRoomId: string;
    readonly photo: Buffer;
    readonly photoUrl: string;
    readonly thumbnail: Buffer;
    areSent: boolean;
    /** Of the remote edit. */
    editId?: string | undefined;
}

/** What all cells have in common. */
export interface Surroundings {
    readonly s3: S3;
    readonly certificates: Pick<Certificates, "good">;
}

let cellCount = 0;

export async function openCellScene(fault: Fault, step: Step, { s3, certificates }: Surroundings): Promise<CellScene> {
    const name = `cell-${++cellCount}`;
    /** A name of its own for the gate that the fault stands at. */
    const at = (gate: Step["gate"]) =>
        fault.onConnection === true && step.gate === gate
            ? { tls: certificates.good, host: `${name}-${gate}${ZONE}` }
            : {};
    const storage =
        step.presigned === true ? await Storage.open({ ...s3, close: async () => {} }, at("storage")) : undefined;
    const world = await openWorld({
        // Otherwise the homeserver's memory would hide what the component sends twice.
        ...(fault.repeats !== true && { txnMemoryMs: 0 }),
        ...(storage !== undefined && { presigned: storage.media() }),
        // Only the component's clock is turned.
        ...(fault.clockMs !== undefined && { now: steadyNow }),
        ...(step.oneStep === true && { features: { create: false } }),
    });
    const remote = await startRemote();
    const [alice, bob] = [world.ghost("alice"), world.ghost("bob")];
    const { sender = "joined" } = step;
    const roomId = await world.room(...(sender === "joined" ? [alice] : []));
    if (sender === "registered") await world.room(alice);
    const otherRoomId = await world.room(bob);
    const sharingRoomId = await world.room(...(step.shared === undefined ? [] : [alice]));
    const photo = someBytes(step.large === true ? LARGE_PHOTO_BYTES : PHOTO_BYTES);
    const homeserverGate = await FaultGate.open(world.homeserver.url, at("homeserver"));
    const sourceGate = await FaultGate.open(remote.url, at("source"));
    const photoUrl = `${sourceGate.url}/photo`;
    const rooms = { alice, roomId, bob, otherRoomId, sharingRoomId };
    const files = { photo, photoUrl, thumbnail: someBytes(THUMBNAIL_BYTES), picture: someBytes(OTHER_BYTES) };
    return { world, remote, storage, homeserverGate, sourceGate, ...rooms, ...files, areSent: false };
}

export function gateOf({ homeserverGate, sourceGate, storage }: CellScene, step: Step): FaultGate | undefined {
    return { homeserver: homeserverGate, source: sourceGate, storage: storage?.gate }[step.gate];
}

/** A room's events that are no edits, in the clear or not. */
export function shownIn({ world, editId }: CellScene, roomId: string): StoredEvent[] {
    return (
        world.homeserver
            .events(roomId)
            // Once it is redacted, nothing in it says that it was one.
            .filter(({ event_id }) => event_id !== editId)
            .filter(({ type }) => type === "m.room.message" || type === "m.room.encrypted")
            .filter(
                ({ content }) =>
                    (content["m.relates_to"] as { rel_type?: unknown } | undefined)?.rel_type !== "m.replace",
            )
    );
}
