import { hash, randomUUID } from "node:crypto";
import type { JsonObject } from "../matrix/answer.ts";
import type { Range, Store, StoredRecord, Write } from "../store/store.ts";
import { isFinal, type Job, type StoredError } from "../uploads/job.ts";
import { loadJob, orderedKey } from "../uploads/job-records.ts";
import type { MediaItem, RemoteMessage } from "./message.ts";

/** What the component journals beside the upload jobs. */

/** Messages by their remote id. */
export const MESSAGES = "message";
/** The rooms' ordered lines: `<room id> <sequence>` → the message's id. */
export const OUTBOX = "outbox";
/** Messages whose event may no longer show how its files stand: see `reviseMark`. */
export const REVISE = "revise";
/** No id of a caller's holds a control character. */
const MARK = "\u0002";
/** What has ended, by when: `<time> <job|message> <id>`. */
export const FINISHED = "finished";

/** What edits of a message say, from the newest one that was sent: `<message id><MARK><place in the room's line>`. */
export const EDITED = "edited";

export interface AskedFailure {
    /** Which failure: see `failureKey`. */
    readonly of: string;
    /** How often it was asked: a process that dies of it must not ask for ever. */
    readonly calls: number;
    /** Undefined while there is none; without `content` the event is left as it is. */
    readonly answer?: { readonly content?: JsonObject | undefined } | undefined;
}

export interface MessageRecord {
    readonly id: string;
    readonly roomId: string;
    readonly sender: string;
    readonly eventType: string;
    readonly content: JsonObject;
    readonly timestamp?: number | undefined;
    /** As the caller said, or once it is found out that it has to be; undefined while it is open. */
    readonly encrypted?: boolean | undefined;
    /** The sender's client had encryption when the message came: after a restart it may have to be waited for. */
    readonly hasCrypto?: true | undefined;
    /** Its place in the room's line. */
    readonly sequence: string;
    readonly transactionId: string;
    /** Of what the caller gave, to notice a repeated id with other content. */
    readonly fingerprint: string;
    readonly state: "queued" | "sent" | "refused";
    /** In the order of `media`. */
    readonly jobs: readonly string[];
    /** Files that needed no job, for they were there already; their MXC URIs stand in `content`. */
    readonly shared?: readonly SharedItem[] | undefined;
    readonly eventId?: string | undefined;
    readonly error?: StoredError | undefined;
    /** Hash of the content that the room shows; differs from what should be shown when a revision is due. */
    readonly shown?: string | undefined;
    readonly revisions: number;
    /** Where the newest revision stands in the room's line. */
    readonly revisedAt?: string | undefined;
    /** Where the files' addresses stand in the content, in the order of `media`. */
    readonly places?: readonly (readonly string[])[] | undefined;
    /** What the embedder's `onFailure` made of the failure named by `of`. */
    readonly failure?: AskedFailure | undefined;
    /** The message that this one is an edit of; its content is placed and wrapped when its turn comes. */
    readonly edits?: string | undefined;
    /** The events of its edits, oldest first: a redaction of its own event leaves them to be read. */
    readonly editEvents?: readonly string[] | undefined;
    /** The event that this one redacts. */
    readonly redacts?: string | undefined;
    /** Taken back by `cancelMessage()`: it is not to be sent any more. */
    readonly withdrawn?: boolean | undefined;
    /** Its event is to be redacted. */
    readonly redact?: boolean | undefined;
    /** The redaction is journaled: nothing more is said about this event. */
    readonly redacted?: boolean | undefined;
    readonly finishedAt?: number | undefined;
}

/** A remote edit of another message. */
export type EditRecord = MessageRecord & { readonly edits: string };

export function isEdit(message: MessageRecord): message is EditRecord {
    return message.edits !== undefined;
}

export interface SharedItem {
    /** Its place in `media`. */
    readonly index: number;
    readonly at: readonly string[];
    readonly contentUri: string;
    readonly size?: number | undefined;
    /** The job that had brought it. */
    readonly jobId: string;
}

export function messageWrite(message: MessageRecord): Write {
    return { collection: MESSAGES, key: message.id, record: message as unknown as StoredRecord };
}

/** @param files Jobs of the message that are in no schedule yet: what a start has to count, without reading them. */
export function outboxWrite(message: MessageRecord, files = message.jobs.length): Write {
    return { collection: OUTBOX, key: outboxKey(message), record: { id: message.id, files } };
}

/**
 * Marks a message whose event is to be looked at. Each mark has a key of its own: one that is written while somebody
 * looks at the message is not taken away with those that the look was for.
 */
export function reviseMark(messageId: string): Write {
    return { collection: REVISE, key: `${messageId}${MARK}${randomUUID()}`, record: {} };
}

/** The message that a mark's key marks. */
export function markedMessage(key: string): string {
    const end = key.lastIndexOf(MARK);
    return end < 0 ? key : key.slice(0, end);
}

export function outboxKey({ roomId, sequence }: { roomId: string; sequence: string }): string {
    return `${roomId} ${sequence}`;
}

export function finishedWrite(at: number, kind: "job" | "message", id: string): Write {
    return { collection: FINISHED, key: orderedKey(at, `${kind} ${id}`), record: {} };
}

/** What puts a job that has come to its end into the list of what has ended; one that had failed before stands there already. */
export function jobEndWrites(before: Job, after: Job): Write[] {
    if (!isFinal(after.state) || isFinal(before.state)) return [];
    return [finishedWrite(after.finishedAt ?? Date.now(), "job", after.id)];
}

export async function loadMessage(store: Store, id: string): Promise<MessageRecord | undefined> {
    return (await store.get(MESSAGES, id)) as MessageRecord | undefined;
}

export function editedWrite(edit: EditRecord): Write {
    return { collection: EDITED, key: editedKey(edit), record: { content: edit.content } };
}

/**
 * Takes back what an edit says that is not sent, or is redacted: what was said before is the newest again, and what was
 * worked out meanwhile may say what the edit said. Nothing for what is no edit.
 */
export function uneditedWrites(message: MessageRecord): Write[] {
    return isEdit(message) ? [{ collection: EDITED, key: editedKey(message) }, reviseMark(message.edits)] : [];
}

/**
 * The writes that forget what was said before an edit that is sent, or all of it.
 * @param keep How many of the newest before it are kept: each edit that is redacted brings up the one before it.
 */
export async function forgetEdited(store: Store, id: string, before?: EditRecord, keep = 0): Promise<Write[]> {
    const end = before && editedKey(before);
    const range = { collection: EDITED, prefix: id + MARK, ...(end !== undefined && { before: end }) };
    const writes: Write[] = [];
    for await (const key of store.keys(range)) writes.push({ collection: EDITED, key });
    return keep === 0 ? writes : writes.slice(0, -keep);
}

export async function isEdited(store: Store, id: string): Promise<boolean> {
    return hasAny(store, { collection: EDITED, prefix: id + MARK });
}

/** Whether anything stands in a room's line. */
export async function hasLine(store: Store, roomId: string): Promise<boolean> {
    return hasAny(store, { collection: OUTBOX, prefix: `${roomId} ` });
}

async function hasAny(store: Store, range: Omit<Range, "limit">): Promise<boolean> {
    for await (const _ of store.keys({ ...range, limit: 1 })) return true;
    return false;
}

function editedKey({ edits, sequence }: EditRecord): string {
    return edits + MARK + sequence;
}

/** What the sender's newest edit says, or the message itself. */
export async function newestContent(store: Store, { id, content }: MessageRecord): Promise<JsonObject> {
    let newest = content;
    for await (const [, record] of store.range({ collection: EDITED, prefix: id + MARK }))
        newest = record["content"] as JsonObject;
    return newest;
}

/** The jobs of a message; one whose record was lost to damage is left out. */
export async function loadJobs(store: Store, ids: readonly string[]): Promise<Job[]> {
    const jobs = await Promise.all(ids.map((id) => loadJob(store, id)));
    return jobs.filter((job) => job !== undefined);
}

/**
 * Unique over rooms and senders too: Synapse keys an appservice's transactions by path alone, so two ghosts with equal
 * ids in one room would lose a message. The same message has the same id again after its journal was lost.
 */
export function transactionIdOf({ roomId, sender, id }: { roomId: string; sender: string; id: string }): string {
    return `mbm-${hashOf([roomId, sender, id])}`;
}

export function fingerprintOf({ roomId, sender, timestamp, eventType, content, media }: RemoteMessage): string {
    const described = media?.map((item: MediaItem) => ({ ...item, source: item.source.kind }));
    return hashOf([roomId, sender, timestamp, eventType, content, described]);
}

export function hashOf(value: unknown): string {
    return hash("sha256", JSON.stringify(value), "base64url").slice(0, 32);
}
