import { createHash } from "node:crypto";
import type { JsonObject } from "../matrix/answer.ts";
import type { Store, StoredRecord, Write } from "../store/store.ts";
import { JOBS, type Job, jobFrom, orderedKey, type StoredError } from "../uploads/job.ts";
import type { MediaItem, RemoteMessage } from "./message.ts";

/** What the component journals beside the upload jobs. */

/** Messages by their remote id. */
export const MESSAGES = "message";
/** The rooms' ordered lines: `<room id> <sequence>` → the message's id. */
export const OUTBOX = "outbox";
/** Messages whose event may no longer show how its files stand: by message id. */
export const REVISE = "revise";
/** What has ended, by when: `<time> <job|message> <id>`. */
export const FINISHED = "finished";

export interface MessageRecord {
    readonly id: string;
    readonly roomId: string;
    readonly sender: string;
    readonly eventType: string;
    readonly content: JsonObject;
    readonly timestamp?: number | undefined;
    /** Its place in the room's line. */
    readonly sequence: string;
    readonly transactionId: string;
    /** Of what the caller gave, to notice a repeated id with other content. */
    readonly fingerprint: string;
    readonly state: "queued" | "sent" | "refused";
    /** In the order of `media`. */
    readonly jobs: readonly string[];
    readonly eventId?: string | undefined;
    readonly error?: StoredError | undefined;
    /** Hash of the content that the room shows; differs from what should be shown when a revision is due. */
    readonly shown?: string | undefined;
    readonly revisions: number;
    readonly finishedAt?: number | undefined;
}

export function messageWrite(message: MessageRecord): Write {
    return { collection: MESSAGES, key: message.id, record: message as unknown as StoredRecord };
}

/** @param files Jobs of the message that are in no schedule yet: what a start has to count, without reading them. */
export function outboxWrite(message: MessageRecord, files = message.jobs.length): Write {
    return { collection: OUTBOX, key: outboxKey(message), record: { id: message.id, files } };
}

export function outboxKey({ roomId, sequence }: { roomId: string; sequence: string }): string {
    return `${roomId} ${sequence}`;
}

export function finishedWrite(at: number, kind: "job" | "message", id: string): Write {
    return { collection: FINISHED, key: orderedKey(at, `${kind} ${id}`), record: {} };
}

export async function loadMessage(store: Store, id: string): Promise<MessageRecord | undefined> {
    return (await store.get(MESSAGES, id)) as MessageRecord | undefined;
}

/** The jobs of a message; one whose record was lost to damage is left out. */
export async function loadJobs(store: Store, ids: readonly string[]): Promise<Job[]> {
    const records = await Promise.all(ids.map((id) => store.get(JOBS, id)));
    return records.filter((record) => record !== undefined).map(jobFrom);
}

/**
 * Unique over rooms and senders too: Synapse keys an appservice's transactions by path alone, so two ghosts with equal
 * ids in one room would lose a message. The same message has the same id again after its journal was lost.
 */
export function transactionIdOf({ roomId, sender, id }: { roomId: string; sender: string; id: string }): string {
    return `mbm-${hashOf([roomId, sender, id])}`;
}

export function fingerprintOf({ roomId, sender, timestamp, eventType, content, media }: RemoteMessage): string {
    const described = media?.map(({ source, ...item }: MediaItem) => ({ ...item, kind: source.kind }));
    return hashOf([roomId, sender, timestamp, eventType, content, described]);
}

export function hashOf(value: unknown): string {
    return createHash("sha256").update(JSON.stringify(value)).digest("base64url").slice(0, 32);
}
