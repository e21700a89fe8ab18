import { MediaError } from "../errors.ts";
import type { JsonObject } from "../matrix/answer.ts";
import type { Store } from "../store/store.ts";
import { areKeysForgotten } from "./encrypted-files.ts";
import { contentFor, type FailurePolicy, replacement, reply, withUris } from "./event-content.ts";
import { hashOf, loadJobs, loadMessage, type MessageRecord } from "./records.ts";

/** What a message in the room's line says when its turn has come. */
export interface Outgoing {
    readonly content: JsonObject;
    /** Hash of what the event then shows: its own, or for an edit that of the message it edits. Empty where nothing will change it. */
    readonly shown: string;
    /** Whether one of its files had another address before. */
    readonly hasReplaced?: boolean;
    /** For an edit: how many revisions of the edited message there were when it was worked out. */
    readonly revisions?: number;
}

/**
 * A message is sent with its files in their places, as they stand at that moment. So is an edit: the message it edits
 * stands before it in the same line, so by now it has its event, or never will, and then its edit is not sent either.
 */
export async function outgoing(store: Store, message: MessageRecord, policy: FailurePolicy): Promise<Outgoing> {
    if (message.redacts !== undefined) return { content: message.content, shown: "" };
    if (message.edits === undefined) {
        if (message.jobs.length === 0) return { content: message.content, shown: "" };
        const files = await loadJobs(store, message.jobs);
        const content = contentFor(message.content, files, policy, message.failure);
        return { content, shown: hashOf(content), hasReplaced: files.some(({ replaces }) => replaces !== undefined) };
    }
    const original = await loadMessage(store, message.edits);
    if (original?.eventId === undefined || original.redact === true || original.redacted === true)
        throw new MediaError(original?.error?.code ?? "CANCELLED", { detail: "what it edits is not in the room" });
    const jobs = await loadJobs(store, original.jobs);
    if (areKeysForgotten(jobs)) throw new MediaError("ENCRYPTION_KEYS_GONE");
    const content = contentFor(withUris(message.content, original.shared), jobs, policy, original.failure);
    return {
        content: editContent(original, content),
        shown: hashOf(content),
        revisions: original.revisions,
    };
}

/** What brings `message`'s event to show `content`. */
export function editContent({ eventType, eventId = "" }: MessageRecord, content: JsonObject): JsonObject {
    return eventType === "m.room.message" ? replacement(eventId, content) : reply(eventId, content);
}
