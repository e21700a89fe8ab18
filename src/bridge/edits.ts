import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { loadMessage, type MessageRecord } from "./records.ts";

/** Between a message's id and the number of an edit or redaction that the component makes of it. No caller's id has it. */
const REVISION = "\u0001";
/** Edits of one message that are remembered. */
const MAX_EDITS = 200;

export function revisionId({ id, revisions }: Pick<MessageRecord, "id" | "revisions">): string {
    return `${id}${REVISION}${revisions + 1}`;
}

/** The message that this one edits or redacts: by a remote edit, or by the component itself. */
export function originalOf({ id, edits }: Pick<MessageRecord, "id" | "edits">): string | undefined {
    return edits ?? (id.includes(REVISION) ? id.slice(0, id.indexOf(REVISION)) : undefined);
}

/** What is held while a message is changed: an edit changes what is known of its original too. */
export function locksOf(id: string, original: string | undefined): string[] {
    return original === undefined ? [id] : [id, original];
}

/** Whether nothing more is wanted of it, although its event may be in the room. */
export function isTakenBack({ withdrawn, redact }: Pick<MessageRecord, "withdrawn" | "redact">): boolean {
    return withdrawn === true || redact === true;
}

export function withEditEvent(original: MessageRecord, eventId: string): MessageRecord {
    const { editEvents = [] } = original;
    if (editEvents.includes(eventId)) return original;
    return { ...original, editEvents: [...editEvents, eventId].slice(-MAX_EDITS) };
}

/** What is known of a message that is to be edited. */
export type Editable = Pick<MessageRecord, "id" | "roomId" | "sender" | "encrypted">;

/** An edit with an id that stands for something else, whose result would be taken for the edit's. */
export function foreignId(id: string): MediaError {
    return new MediaError("INVALID_ARGUMENT", {
        field: "id",
        detail: `${id} is a message's or another message's edit's`,
    });
}

/**
 * The message that an edit of `id` edits: an edit stands for its original. Rejects with MESSAGE_UNKNOWN, and with the
 * reason where the message is not in the room, or not any more.
 */
export async function editableMessage(store: Store, id: string): Promise<Editable> {
    const message = await loadMessage(store, id);
    if (message === undefined) throw new MediaError("MESSAGE_UNKNOWN", { detail: id });
    if (message.edits !== undefined) return editableMessage(store, message.edits);
    if (message.state === "refused")
        throw new MediaError(message.error?.code ?? "EVENT_REFUSED", { detail: "it was not sent" });
    if (isTakenBack(message) || message.redacted === true)
        throw new MediaError("CANCELLED", { detail: "it was taken back" });
    return message;
}
