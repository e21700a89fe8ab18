import type { Store, Write } from "../store/store.ts";
import { type EncryptionStrategy, mustPrepare } from "../uploads/encryption/job-encryption.ts";
import { isFinal, type Job } from "../uploads/job.ts";
import { transition } from "../uploads/transition.ts";
import { jobWrites } from "../uploads/job-records.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import { isEdited, loadJobs, loadMessage, type MessageRecord, messageWrite, OUTBOX } from "./records.ts";

/** What a message's files have beside plain ones when its event is encrypted: in its content, before it, and after it. */

/** Where in the event a job's file stands: `url` becomes `file`, `thumbnail_url` becomes `thumbnail_file`. */
export function placeOf({ at = [], encryption }: Job): readonly string[] {
    if (encryption === undefined) return at;
    return [...at.slice(0, -1), (at.at(-1) ?? "").replace(/^url$/, "file").replace(/_url$/, "_file")];
}

/**
 * The place in an event in the clear of what is said to stand where it would be encrypted: in the message, its `info`, or an
 * element of its gallery. What else is called so is a bridge's own, and stays where it is.
 */
export function plainPlaceOf(at: string[]): string[] {
    const [last = "", above] = [at.at(-1), at.at(-2)];
    const isOfFile = last === "file" && (above === undefined || /^\d+$/.test(above));
    const isOfThumbnail = last === "thumbnail_file" && above === "info";
    return isOfFile || isOfThumbnail ? [...at.slice(0, -1), last.replace(/file$/, "url")] : at;
}

/** What stands there; undefined where there is nothing to show. */
export function valueOf({ contentUri, encryption }: Job): unknown {
    if (contentUri === undefined || encryption === undefined) return contentUri;
    return encryption.file && { ...encryption.file, url: contentUri };
}

/** Whether there is nothing to show of it yet: it has to be encrypted first, or is tried again and has no address. */
export function hasNoFileYet(job: Job): boolean {
    const { encryption, revived, state } = job;
    return !isFinal(state) && valueOf(job) === undefined && (encryption !== undefined || revived === true);
}

export interface PreparationParts {
    readonly store: Store;
    readonly queue: UploadQueue;
    readonly messageLocks: KeyedLocks;
    readonly strategy: EncryptionStrategy;
    readonly closing: AbortSignal;
    /** Aborts with CANCELLED when the message is withdrawn, or as `closing` does. */
    readonly stop: AbortSignal;
}

/**
 * Encrypts a message's files, in the room's lane and before its event, with the retries of a transfer; one that cannot be
 * had is then shown as failed. That the message is encrypted is journaled first, so that no later look can find
 * otherwise. What was prepared before a crash stays so.
 */
export async function prepareFiles(message: MessageRecord, parts: PreparationParts): Promise<MessageRecord> {
    const { store, queue, closing, stop } = parts;
    if (message.jobs.length > 0) await mark(message, parts);
    for (const job of await loadJobs(store, message.jobs)) {
        if (isFinal(job.state) || !mustPrepare(job)) continue;
        stop.throwIfAborted();
        await queue.runNow(job, closing, { enough: (now) => !mustPrepare(now), stop });
        stop.throwIfAborted();
    }
    return { ...message, encrypted: true };
}

async function mark({ id, jobs }: MessageRecord, { store, queue, messageLocks, strategy }: PreparationParts) {
    await messageLocks.hold([id], async () => {
        // As it is by now: it may have been withdrawn.
        const message = await loadMessage(store, id);
        if (message === undefined) return;
        await queue.locks.hold(jobs, async () => {
            const writes = (await loadJobs(store, jobs)).flatMap((job) => {
                const after = job.encryption === undefined ? transition(job, { type: "encrypt", strategy }) : undefined;
                return after === undefined ? [] : jobWrites(job, after);
            });
            if (writes.length === 0 && message.encrypted === true) return;
            await store.commit([messageWrite({ ...message, encrypted: true }), ...writes]);
        });
    });
}

/** Whether the keys are gone: what the event shows can then no longer be worked out, and need not be. */
export function areKeysForgotten(jobs: readonly Job[]): boolean {
    return jobs.some(({ encryption }) => encryption?.size !== undefined && encryption.file === undefined);
}

/**
 * The writes that forget a message's keys; none while a file that is retried, or an edit that is in the room's line, may
 * still make an edit of the event necessary, which then has to show all files.
 * @param isOver Nothing more will be said of the event.
 */
export async function forgetKeys(
    store: Store,
    message: MessageRecord,
    jobs: readonly Job[],
    isOver: boolean,
): Promise<Write[]> {
    if (!jobs.some(({ encryption }) => encryption?.file !== undefined)) return [];
    if (!jobs.every(({ state }) => isFinal(state) && (isOver || state !== "failed"))) return [];
    if (!isOver && (await hasPendingEdit(store, message))) return [];
    return jobs.flatMap((job) => {
        const after = job.encryption?.file && transition(job, { type: "forget-key" });
        return after === undefined ? [] : jobWrites(job, after);
    });
}

async function hasPendingEdit(store: Store, { id, roomId }: MessageRecord): Promise<boolean> {
    if (!(await isEdited(store, id))) return false;
    for await (const [, entry] of store.range({ collection: OUTBOX, prefix: `${roomId} ` })) {
        const message = await loadMessage(store, String(entry["id"]));
        if (message?.edits === id) return true;
    }
    return false;
}
