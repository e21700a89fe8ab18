/**
 * `GET /sync`, as much of it as an onlooker needs: rooms joined, invited to and left, without filters, presence, account
 * data or receipts. A sync looks at a bounded stretch of the stream and answers with where it stopped, so a client far
 * behind catches up in steps and no timeline is ever cut.
 */
import type { FastifyInstance } from "fastify";
import { clientEvent, type StoredEvent } from "../event.ts";
import type { JsonObject } from "../json.ts";
import { queryInteger, queryText, requesterOf } from "../request.ts";
import type { Room } from "../room.ts";
import type { Rooms } from "../rooms.ts";
import type { Services } from "../services.ts";
import { parsePosition, positionToken } from "../stream-token.ts";

type Sections = Record<string, unknown>;

const STRETCH = 1000;
const FIRST_TIMELINE = 20;
const MAX_WAIT_MS = 5 * 60 * 1000;
/** State that tells an invited user what the invitation is to (spec, stripped state). */
const STRIPPED = ["m.room.create", "m.room.name", "m.room.topic", "m.room.join_rules", "m.room.canonical_alias"];

export function syncRoutes(app: FastifyInstance, { rooms }: Services): void {
    app.get("/sync", async (request, reply) => {
        const { userId } = requesterOf(request);
        let since = parsePosition(queryText(request, "since"));
        if (since === undefined) return initialSync(rooms, userId);

        const until = Date.now() + Math.min(queryInteger(request, "timeout") ?? 0, MAX_WAIT_MS);
        for (;;) {
            // A token from a journal that has since been lost lies in the future: go on from the present.
            since = Math.min(since, rooms.position);
            const stretch = rooms.after(since, STRETCH);
            since += stretch.length;
            const changes = sortByRoom(rooms, userId, stretch);
            if (changes !== undefined) return { next_batch: positionToken(since), rooms: changes };
            if (since < rooms.position) continue;

            const left = until - Date.now();
            if (left <= 0 || rooms.held.closed || reply.raw.destroyed) {
                return { next_batch: positionToken(since), rooms: {} };
            }
            await rooms.held.hold((event) => concerns(rooms, userId, event), left, reply.raw);
        }
    });

    // Clients store a filter before they sync; it is accepted and has no effect.
    app.post("/user/:userId/filter", (request) => {
        requesterOf(request);
        return { filter_id: "0" };
    });
}

function concerns(rooms: Rooms, userId: string, event: StoredEvent): boolean {
    return isOwnMembership(event, userId) || rooms.find(event.room_id)?.joined.has(userId) === true;
}

function initialSync(rooms: Rooms, userId: string): JsonObject {
    const join: Sections = {};
    const invite: Sections = {};
    for (const id of rooms.joinedRooms(userId)) {
        const room = rooms.find(id);
        if (room !== undefined) join[id] = joined(room, userId, room.events.slice(-FIRST_TIMELINE), true);
    }
    for (const id of rooms.invitedRooms(userId)) {
        const room = rooms.find(id);
        if (room !== undefined) invite[id] = invited(room, userId);
    }
    return { next_batch: positionToken(rooms.position), rooms: { join, invite, leave: {} } };
}

/** Undefined when nothing in the stretch concerns the user. */
function sortByRoom(rooms: Rooms, userId: string, stretch: readonly StoredEvent[]): JsonObject | undefined {
    const timelines = new Map<string, StoredEvent[]>();
    for (const event of stretch) {
        if (!concerns(rooms, userId, event)) continue;
        const timeline = timelines.get(event.room_id);
        if (timeline === undefined) timelines.set(event.room_id, [event]);
        else timeline.push(event);
    }
    if (timelines.size === 0) return undefined;

    const [join, invite, leave]: [Sections, Sections, Sections] = [{}, {}, {}];
    for (const [id, timeline] of timelines) {
        const room = rooms.find(id);
        if (room === undefined) continue;
        const isNew = timeline.some((event) => isOwnMembership(event, userId));
        const membership = room.membership(userId);
        if (membership === "join") join[id] = joined(room, userId, timeline, isNew);
        else if (membership === "invite") invite[id] = invited(room, userId);
        else leave[id] = { timeline: timelineOf(room, userId, timeline, false), state: { events: [] } };
    }
    return { join, invite, leave };
}

const isOwnMembership = (event: StoredEvent, userId: string): boolean =>
    event.type === "m.room.member" && event.state_key === userId;

/** `isNew`: the client does not know the room yet and gets its state as it is now. */
function joined(room: Room, userId: string, timeline: readonly StoredEvent[], isNew: boolean): JsonObject {
    const shown = new Set(timeline.map((event) => event.event_id));
    const state = isNew ? room.allState.filter((event) => !shown.has(event.event_id)) : [];
    return {
        timeline: timelineOf(room, userId, timeline, isNew),
        state: { events: state.map((event) => clientEvent(event, userId)) },
        account_data: { events: [] },
        ephemeral: { events: [] },
        unread_notifications: {},
        summary: {},
    };
}

function timelineOf(room: Room, userId: string, timeline: readonly StoredEvent[], isNew: boolean): JsonObject {
    const [first] = timeline;
    return {
        events: timeline.map((event) => clientEvent(event, userId)),
        // Only a room's first timeline leaves earlier events out; `/messages` has them.
        limited: isNew && first?.event_id !== room.events[0]?.event_id,
        prev_batch: positionToken((first?.stream_ordering ?? 1) - 1),
    };
}

function invited(room: Room, userId: string): JsonObject {
    const events = room.allState.filter((event) => STRIPPED.includes(event.type) || isOwnMembership(event, userId));
    const stripped = events.map(({ type, state_key, content, sender }) => ({ type, state_key, content, sender }));
    return { invite_state: { events: stripped } };
}
