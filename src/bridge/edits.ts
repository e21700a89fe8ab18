import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { loadMessage, type MessageRecord } from "./records.ts";

/** What is known of a message that is to be edited. */
export type Editable = Pick<MessageRecord, "id" | "roomId" | "sender" | "encrypted">;

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
    if (message.withdrawn === true || message.redact === true || message.redacted === true)
        throw new MediaError("CANCELLED", { detail: "it was taken back" });
    return message;
}
