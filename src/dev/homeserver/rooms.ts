/**
 * All rooms and the one stream in which their events are accepted. An event is in force, and visible, as soon as it is
 * appended; the promise that `append` returns is for the journal, and answers wait for it.
 */
import { checkEventSize, completeEvent, type EventDraft, type StoredEvent } from "./event.ts";
import { HeldRequests } from "./held-requests.ts";
import type { Journal } from "./journal.ts";
import { MatrixError, notFound } from "./matrix-error.ts";
import { Room } from "./room.ts";

export type RoomRecord =
    | { readonly kind: "event"; readonly event: StoredEvent }
    | { readonly kind: "alias"; readonly alias: string; readonly roomId: string };

export class Rooms {
    readonly #rooms = new Map<string, Room>();
    readonly #aliases = new Map<string, string>();
    readonly #stream: StoredEvent[] = [];
    readonly #joinedRooms = new Map<string, Set<string>>();
    readonly #invitedRooms = new Map<string, Set<string>>();
    /** Syncs that wait for an event. */
    readonly held = new HeldRequests<StoredEvent>();
    #journal: Journal | undefined;

    persistTo(journal: Journal): void {
        this.#journal = journal;
    }

    restore(record: RoomRecord): void {
        if (record.kind === "event") this.#apply(record.event);
        else this.#aliases.set(record.alias, record.roomId);
    }

    /** The place of the newest event; what a client that has seen everything is at. */
    get position(): number {
        return this.#stream.length;
    }

    /** Up to `limit` events that follow a place in the stream. */
    after(position: number, limit: number): readonly StoredEvent[] {
        return this.#stream.slice(position, position + limit);
    }

    find(roomId: string): Room | undefined {
        return this.#rooms.get(roomId);
    }

    /** A room that the user is in; to everybody else it does not differ from one that does not exist. */
    joinedBy(userId: string, roomId: string): Room {
        const room = this.#rooms.get(roomId);
        if (room?.joined.has(userId) === true) return room;
        throw new MatrixError(403, "M_FORBIDDEN", `User ${userId} not in room ${roomId}`);
    }

    joinedRooms(userId: string): readonly string[] {
        return [...(this.#joinedRooms.get(userId) ?? [])];
    }

    invitedRooms(userId: string): readonly string[] {
        return [...(this.#invitedRooms.get(userId) ?? [])];
    }

    resolveAlias(alias: string): string {
        const roomId = this.#aliases.get(alias);
        if (roomId === undefined) throw notFound(`Room alias ${alias} not found.`);
        return roomId;
    }

    async addAlias(alias: string, roomId: string): Promise<void> {
        if (this.#aliases.has(alias)) throw new MatrixError(400, "M_ROOM_IN_USE", "Room alias already taken");
        this.#aliases.set(alias, roomId);
        await this.#journal?.append(JSON.stringify({ kind: "alias", alias, roomId } satisfies RoomRecord));
    }

    async append(draft: EventDraft): Promise<StoredEvent> {
        const event = completeEvent(draft, this.#stream.length + 1);
        const json = JSON.stringify(event);
        checkEventSize(json);
        this.#apply(event);
        this.held.announce(event);
        await this.#journal?.append(`{"kind":"event","event":${json}}`);
        return event;
    }

    #apply(event: StoredEvent): void {
        this.#stream.push(event);
        let room = this.#rooms.get(event.room_id);
        if (room === undefined) this.#rooms.set(event.room_id, (room = new Room(event.room_id)));
        room.apply(event);
        if (event.type !== "m.room.member" || event.state_key === undefined) return;
        const membership = event.content["membership"];
        note(this.#joinedRooms, event.state_key, event.room_id, membership === "join");
        note(this.#invitedRooms, event.state_key, event.room_id, membership === "invite");
    }
}

function note(sets: Map<string, Set<string>>, userId: string, roomId: string, present: boolean): void {
    const set = sets.get(userId);
    if (!present) set?.delete(roomId);
    else if (set === undefined) sets.set(userId, new Set([roomId]));
    else set.add(roomId);
}
