/**
 * Events as they are stored, and as a client sees them. Names are the wire's own: a stored event is what goes over the
 * wire, plus what the server notes beside it.
 */
import type { JsonObject } from "./json.ts";
import { MatrixError } from "./matrix-error.ts";
import { randomId } from "./random-id.ts";

export interface StoredEvent {
    readonly event_id: string;
    readonly room_id: string;
    readonly type: string;
    readonly sender: string;
    readonly origin_server_ts: number;
    readonly content: JsonObject;
    readonly state_key?: string;
    readonly redacts?: string;
    /** From the path of the PUT that sent it. Kept for good, unlike the memory that makes a second PUT harmless. */
    readonly transaction_id?: string;
    /** Place in the server's one stream of events, from 1; the order in which events were accepted. */
    readonly stream_ordering: number;
    /** When the event was accepted, whatever `ts` said. */
    readonly received_ts: number;
    readonly redacted_because?: StoredEvent;
}

/** What the one who makes an event decides. */
export interface EventDraft {
    readonly room_id: string;
    readonly type: string;
    readonly sender: string;
    readonly content: JsonObject;
    readonly state_key?: string | undefined;
    readonly redacts?: string | undefined;
    readonly transaction_id?: string | undefined;
    readonly origin_server_ts?: number | undefined;
}

/** "The complete event MUST NOT be larger than 65536 bytes" (spec, size limits). */
const MAX_EVENT_BYTES = 65_536;

export function completeEvent(draft: EventDraft, streamOrdering: number): StoredEvent {
    const now = Date.now();
    return {
        event_id: `$${randomId(32)}`,
        room_id: draft.room_id,
        type: draft.type,
        sender: draft.sender,
        origin_server_ts: draft.origin_server_ts ?? now,
        content: draft.content,
        ...(draft.state_key === undefined ? {} : { state_key: draft.state_key }),
        ...(draft.redacts === undefined ? {} : { redacts: draft.redacts }),
        ...(draft.transaction_id === undefined ? {} : { transaction_id: draft.transaction_id }),
        stream_ordering: streamOrdering,
        received_ts: now,
    };
}

/** Refuses an event that is too large, given its JSON. */
export function checkEventSize(json: string): void {
    if (Buffer.byteLength(json) > MAX_EVENT_BYTES) throw new MatrixError(413, "M_TOO_LARGE", "event too large");
}

/** Canonical JSON has no fractions and no integers beyond 2^53 - 1: Synapse refuses such an event, and so does this. */
export function checkCanonical(value: unknown): void {
    if (typeof value === "number" && !Number.isSafeInteger(value)) {
        throw new MatrixError(
            400,
            "M_BAD_JSON",
            Number.isInteger(value) ? "JSON integer out of range" : "Bad JSON value: float",
        );
    }
    if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) checkCanonical(inner);
}

/** The event as `viewer` gets it. The transaction ID is shown to nobody but the sender (spec, `UnsignedData`). */
export function clientEvent(event: StoredEvent, viewer: string): JsonObject {
    const { stream_ordering: _order, received_ts: _received, transaction_id, redacted_because, ...visible } = event;
    const unsigned: Record<string, unknown> = { age: Date.now() - event.origin_server_ts };
    if (transaction_id !== undefined && event.sender === viewer) unsigned["transaction_id"] = transaction_id;
    if (redacted_because !== undefined) unsigned["redacted_because"] = clientEvent(redacted_because, viewer);
    return { ...visible, unsigned };
}

/** What survives redaction, by event type (spec, room version 11). */
const KEPT_CONTENT: Readonly<Record<string, readonly string[]>> = {
    "m.room.member": ["membership"],
    "m.room.join_rules": ["join_rule", "allow"],
    "m.room.history_visibility": ["history_visibility"],
    "m.room.power_levels": [
        "ban",
        "events",
        "events_default",
        "invite",
        "kick",
        "redact",
        "state_default",
        "users",
        "users_default",
    ],
};

export function redactedEvent(event: StoredEvent, because: StoredEvent): StoredEvent {
    if (event.type === "m.room.create") return { ...event, redacted_because: because };
    const kept = KEPT_CONTENT[event.type] ?? [];
    const content = Object.fromEntries(Object.entries(event.content).filter(([key]) => kept.includes(key)));
    return { ...event, content, redacted_because: because };
}
