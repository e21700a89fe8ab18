import { MediaError } from "../errors.ts";
import type { JsonObject } from "../matrix/answer.ts";
import type { Store } from "../store/store.ts";
import type { Job } from "../uploads/job.ts";
import { originalOf } from "./edits.ts";
import { areKeysForgotten } from "./encrypted-files.ts";
import { contentFor, type FailurePolicy, replacement, reply, withUris } from "./event-content.ts";
import { hashOf, loadJobs, loadMessage, type MessageRecord } from "./records.ts";

/** What a message in the room's line says when its turn has come. */
export interface Outgoing {
    readonly eventType: string;
    readonly content: JsonObject;
    /**
     * Hash of what the event then shows: its own, or for an edit that of the message it edits. Empty where nothing will
     * change it, and where nobody knows.
     */
    readonly shown: string;
    /** Whether it may have shown something else before: one of its files had another address, or has failed. */
    readonly mayHaveDiffered?: boolean;
}

/**
 * A message is sent with its files in their places, as they stand at that moment. So is an edit: the message it edits
 * stands before it in the same line, so by now it has its event, or never will, and then its edit is not sent either. Nor is
 * what the component itself has to say of a message that is to be redacted.
 */
export async function outgoing(store: Store, message: MessageRecord, policy: FailurePolicy): Promise<Outgoing> {
    const { eventType } = message;
    if (message.redacts !== undefined) return { eventType, content: message.content, shown: "" };
    const about = originalOf(message);
    const original = about === undefined ? undefined : await loadMessage(store, about);
    if (original?.redact === true || original?.redacted === true) throw notInRoom(original);
    if (message.edits === undefined) {
        if (message.jobs.length === 0) return { eventType, content: message.content, shown: "" };
        const files = await loadJobs(store, message.jobs);
        const content = contentFor(message.content, files, policy, message.failure);
        return { eventType, content, shown: hashOf(content), mayHaveDiffered: files.some(mayHaveDiffered) };
    }
    if (original?.eventId === undefined) throw notInRoom(original);
    const jobs = await loadJobs(store, original.jobs);
    if (areKeysForgotten(jobs)) throw new MediaError("ENCRYPTION_KEYS_GONE");
    const content = contentFor(withUris(message.content, original.shared), jobs, policy, original.failure);
    return {
        ...editOf(original, content, true),
        shown: hashOf(content),
        mayHaveDiffered: jobs.some(mayHaveDiffered),
    };
}

function notInRoom(original: MessageRecord | undefined): MediaError {
    return new MediaError(original?.error?.code ?? "CANCELLED", { detail: "what it edits is not in the room" });
}

function mayHaveDiffered({ state, replaces, revived }: Job): boolean {
    return state === "failed" || state === "cancelled" || replaces !== undefined || revived === true;
}

export type EditOf = Pick<Outgoing, "eventType" | "content">;

/**
 * What brings `message`'s event to show `content`. An event that is no message is edited by one of its own type: clients
 * that know no edits of it show the edit, which then has the file that the first one never got. What is a message in its place, such as a notice,
 * can only be a reply.
 * @param isNews See `replacement()`.
 */
export function editOf(message: MessageRecord, content: JsonObject, isNews = false): EditOf {
    const { eventType, eventId = "", content: sent } = message;
    const isMessage = eventType !== "m.room.message" && isNoticeOf(message, content);
    if (isMessage) return { eventType: "m.room.message", content: reply(eventId, content, sent["m.relates_to"]) };
    return { eventType, content: replacement(eventId, content, isNews) };
}

/** Whether another kind of message stands in place of what was sent. */
function isNoticeOf({ content: sent }: MessageRecord, { msgtype }: JsonObject): boolean {
    return typeof msgtype === "string" && msgtype !== sent["msgtype"];
}
