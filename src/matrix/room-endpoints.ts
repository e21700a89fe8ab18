import { MediaError } from "../errors.ts";
import { EVENT_REFUSALS, type JsonObject } from "./answer.ts";
import type { Access } from "./client.ts";
import { type MatrixRequest, matrixRequest } from "./request.ts";

/** The room endpoints of the homeserver, as the client sees them. */

export interface OutgoingEvent {
    readonly roomId: string;
    readonly eventType: string;
    readonly transactionId: string;
    readonly content: JsonObject;
    /** `origin_server_ts` of the event, milliseconds; spec v1.3, Application Service API "Timestamp massaging". */
    readonly timestamp?: number | undefined;
}

function room(roomId: string): string {
    return `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}`;
}

/** Sends one event and returns its id. The same transaction id must travel in the same path on every try. */
export function sendEvent(access: Access, event: OutgoingEvent, waiting: EventWait = {}): Promise<string> {
    const type = encodeURIComponent(event.eventType);
    const path = `${room(event.roomId)}/send/${type}/${encodeURIComponent(event.transactionId)}`;
    return putEvent(access, { path, query: { ts: event.timestamp }, body: event.content }, waiting);
}

export interface EventWait {
    readonly signal?: AbortSignal | undefined;
    /** Throws HOMESERVER_ANSWER_INVALID for the id of another event. */
    readonly check?: (eventId: string) => void;
}

function putEvent(
    access: Access,
    event: Pick<MatrixRequest, "path" | "query" | "body">,
    { signal, check }: EventWait,
): Promise<string> {
    const request: MatrixRequest = { ...event, method: "PUT", refusals: EVENT_REFUSALS, signal };
    return matrixRequest(access, request, ({ event_id: eventId }) => {
        if (typeof eventId !== "string" || !eventId.startsWith("$"))
            throw new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "no event_id", ambiguous: true });
        check?.(eventId);
        return eventId;
    });
}

/** Sets a piece of the room's state that has no key of its own, and returns the event's id. */
export function setRoomState(
    access: Access,
    { roomId, eventType, content }: Pick<OutgoingEvent, "roomId" | "eventType" | "content">,
    waiting: EventWait = {},
): Promise<string> {
    const path = `${room(roomId)}/state/${encodeURIComponent(eventType)}/`;
    return putEvent(access, { path, body: content }, waiting);
}

/** Redacts one event and returns the redaction's id. Repeatable like `sendEvent`. */
export function redactEvent(
    access: Access,
    event: Pick<OutgoingEvent, "roomId" | "transactionId" | "content"> & { readonly redacts: string },
    waiting: EventWait = {},
): Promise<string> {
    const path = `${room(event.roomId)}/redact/${encodeURIComponent(event.redacts)}/${encodeURIComponent(event.transactionId)}`;
    return putEvent(access, { path, body: event.content }, waiting);
}

/** How far back `findSentEvent` looks, in pages of 100 of the sender's own events: an outage, not a history. */
const PAGES = 10;

/** An event that its sender finds in a room. */
export interface FoundEvent {
    readonly eventId: string;
    readonly eventType: unknown;
    readonly content: unknown;
    /** Somebody has taken it back, and with it what it said. */
    readonly isRedacted: boolean;
}

/**
 * The event with this transaction id, where it is already in the room. A homeserver forgets transaction ids
 * when it restarts (Synapse keeps an appservice's in memory), but shows a sender the `transaction_id` of its own
 * events for good (spec: "UnsignedData"), so the room itself is the record that lasts.
 */
export async function findSentEvent(
    access: Access,
    { roomId, transactionId }: { roomId: string; transactionId: string },
    signal?: AbortSignal,
): Promise<FoundEvent | undefined> {
    let from: string | undefined;
    for (let page = 0; page < PAGES; page++) {
        const request: MatrixRequest = {
            method: "GET",
            path: `${room(roomId)}/messages`,
            // Only its own, so that what others said meanwhile does not push the event out of sight.
            query: { dir: "b", limit: 100, from, filter: JSON.stringify({ senders: [access.userId] }) },
            refusals: EVENT_REFUSALS,
            signal,
        };
        const { chunk, end } = await matrixRequest(access, request, (body) => {
            const events: unknown = body["chunk"];
            // What is no list of events does not say that the event is not there.
            if (!Array.isArray(events) || events.some((event) => isElsewhere(event, roomId)))
                throw new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "no chunk of this room" });
            return { chunk: events as unknown[], end: body["end"] };
        });
        for (const event of chunk) {
            if (hasTransactionId(event, access.userId, transactionId)) {
                const { event_id: eventId, type: eventType, content, unsigned } = event;
                return { eventId, eventType, content, isRedacted: unsigned["redacted_because"] !== undefined };
            }
        }
        if (typeof end !== "string" || end === from) return undefined;
        from = end;
    }
    return undefined;
}

function isElsewhere(event: unknown, roomId: string): boolean {
    const { room_id: of = roomId } = (event ?? {}) as { room_id?: unknown };
    return of !== roomId;
}

function hasTransactionId(
    event: unknown,
    sender: string,
    transactionId: string,
): event is { event_id: string; type?: unknown; content?: unknown; unsigned: JsonObject } {
    if (typeof event !== "object" || event === null) return false;
    const { event_id, sender: by, unsigned } = event as { event_id?: unknown; sender?: unknown; unsigned?: unknown };
    if (by !== sender || typeof event_id !== "string" || typeof unsigned !== "object" || unsigned === null)
        return false;
    return (unsigned as { transaction_id?: unknown }).transaction_id === transactionId;
}

/** Whether the room's state says that it is encrypted. Throws FORBIDDEN where the user may not see it. */
export async function hasEncryptionState(access: Access, roomId: string, signal?: AbortSignal): Promise<boolean> {
    const path = `${room(roomId)}/state/m.room.encryption/`;
    try {
        // What somebody has put there, whatever that is, and no result.
        await matrixRequest(access, { method: "GET", path, refusals: EVENT_REFUSALS, signal }, (content) => content);
        return true;
    } catch (error) {
        if (error instanceof MediaError && error.errcode === "M_NOT_FOUND") return false;
        throw error;
    }
}

/** Puts the user into the room. */
export async function joinRoom(access: Access, roomId: string, signal?: AbortSignal): Promise<void> {
    await matrixRequest(access, {
        method: "POST",
        path: `${room(roomId)}/join`,
        body: {},
        refusals: EVENT_REFUSALS,
        signal,
    });
}

/** Invites `userId` as the acting user, who has to be in the room. */
export async function inviteUser(access: Access, roomId: string, userId: string, signal?: AbortSignal): Promise<void> {
    await matrixRequest(access, {
        method: "POST",
        path: `${room(roomId)}/invite`,
        body: { user_id: userId },
        refusals: EVENT_REFUSALS,
        signal,
    });
}
