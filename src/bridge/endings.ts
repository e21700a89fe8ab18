import { MediaError } from "../errors.ts";
import type { Store, Write } from "../store/store.ts";
import { type Job, storedError } from "../uploads/job.ts";
import { jobWrites } from "../uploads/job-records.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import { isThumbnail } from "../uploads/priority.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import type { Release } from "../uploads/release.ts";
import { applies, transition } from "../uploads/transition.ts";
import { isTakenBack, locksOf, originalOf, withEditEvent } from "./edits.ts";
import type { Outgoing } from "./outgoing.ts";
import {
    finishedWrite,
    forgetEdited,
    isEdit,
    jobEndWrites,
    loadJobs,
    loadMessage,
    type MessageRecord,
    messageWrite,
    OUTBOX,
    outboxKey,
    reviseMark,
    uneditedWrites,
} from "./records.ts";
import { type Reservation, reservationOf, type Reservations } from "./reservations.ts";
import { endJobs } from "./successor.ts";

/** Edits of a message with files that are remembered behind the newest, for when that is redacted. */
const KEPT_EDITS = 16;

export interface EndingsParts {
    readonly store: Store;
    readonly reservations: Reservations;
    readonly queue: UploadQueue;
    /** Held by whoever changes a message's record, from reading it until the change is journaled. */
    readonly messageLocks: KeyedLocks;
    /** How a job becomes ready with its event. To be called in the step of the commit, while the job's lock is held. */
    readonly release: (job: Job) => Release;
    /** Told after the outcome is journaled; `error` only for a refusal. */
    readonly onOutcome: (message: MessageRecord, error: MediaError | undefined) => void;
    /** Told about each job that was changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

/**
 * How a message leaves its room's line: its outcome, what that means for its files, and its place in the line are one commit.
 */
export class Endings {
    readonly #parts: EndingsParts;

    constructor(parts: EndingsParts) {
        this.#parts = parts;
    }

    /** Takes a message out of its line that no lane is delivering. To be called while its lock is held, and its original's. */
    async takeOut(message: MessageRecord): Promise<void> {
        await this.#refuse(message, new MediaError("CANCELLED"));
    }

    /** Journals that the event is in its room; its files become ready in the same step. */
    async sent({ id, edits, redacts, encrypted }: MessageRecord, eventId: string, now: Outgoing): Promise<void> {
        const { store, messageLocks } = this.#parts;
        const of = redacts === undefined ? originalOf({ id, edits }) : undefined;
        await messageLocks.hold(locksOf(id, of), async () => {
            // As it is by now: its files may have been given other addresses, and it may have been withdrawn.
            const message = await loadMessage(store, id);
            if (message === undefined) return;
            const original = of === undefined ? undefined : await loadMessage(store, of);
            // What stands behind this edit in the line says what the room will show, whenever it was worked out.
            const isNewest = edits !== undefined && (original?.revisedAt ?? "") < message.sequence;
            const also: Write[] = [];
            if (original !== undefined) {
                const edited = withEditEvent(original, eventId);
                also.push(messageWrite(isNewest ? { ...edited, shown: now.shown } : edited));
            }
            const hasFiles = original !== undefined && original.jobs.length > 0;
            // Nobody knows what it shows; its files' keys were kept for it; what was answered of a failure was said of another text.
            const isLookedAt = now.shown === "" || original?.encrypted === true || original?.failure !== undefined;
            if (edits !== undefined && hasFiles && isLookedAt) also.push(reviseMark(original.id));
            // What is to be redacted is not the newest text any more, although its redaction stands behind it.
            if (message.redact === true) also.push(...uneditedWrites(message));
            // Of a text nothing is said again.
            const keep = hasFiles ? KEPT_EDITS : 0;
            if (isEdit(message)) also.push(...(await forgetEdited(store, message.edits, message, keep)));
            await this.#commitSent({ ...message, encrypted }, eventId, now.shown, also);
        });
    }

    async #commitSent(message: MessageRecord, eventId: string, shown: string, also: readonly Write[]): Promise<void> {
        const { store, queue } = this.#parts;
        const finishedAt = Date.now();
        const sent: MessageRecord = { ...message, state: "sent", eventId, shown, finishedAt };
        // Without files nothing will ever be edited: the text need not be kept.
        const kept = message.jobs.length === 0 ? { ...sent, content: {} } : sent;
        const uploaders = new Set<string>();
        await queue.locks.hold(message.jobs, async () => {
            // Unreserved only where damage has brought back a record from before its event.
            const waiting = (await loadJobs(store, message.jobs)).filter(
                ({ state }) => state === "reserved" || state === "unreserved",
            );
            // Of one that was taken back, and has arrived all the same, no file is begun: they end by its mark.
            const reserved = isTakenBack(message) ? [] : waiting;
            for (const { uploader } of reserved) uploaders.add(uploader);
            // The first one takes a place that is free: what a room looks at while the large file comes.
            const released = thumbnailsFirst(reserved).map((job) => this.#parts.release(job));
            const writes = [
                messageWrite(kept),
                { collection: OUTBOX, key: outboxKey(message) },
                finishedWrite(finishedAt, "message", message.id),
                ...released.flatMap((release) => release.writes),
                ...(isTakenBack(message) ? [reviseMark(message.id)] : []),
                ...also,
            ];
            await store.commit(writes).catch((error: unknown) => {
                for (const release of released) release.undo();
                throw error;
            });
            for (const release of released) {
                this.#parts.onJob(release.job);
                release.confirm();
            }
        });
        this.#parts.onOutcome(sent, undefined);
        if (uploaders.size === 0) return;
        // Whoever waits for the event hears of it before the next message's addresses are seen to.
        setImmediate(() => {
            for (const uploader of uploaders) this.#parts.reservations.keepAhead(uploader);
        });
    }

    /** Journals the homeserver's last word, or that the message was taken back, and ends its files. */
    async refused({ id, edits }: MessageRecord, error: MediaError): Promise<void> {
        const { store, messageLocks, queue } = this.#parts;
        const underWay = await messageLocks.hold(locksOf(id, edits), async () => {
            const message = await loadMessage(store, id);
            return message === undefined ? [] : this.#refuse(message, error);
        });
        // Only now: a transfer that is just replacing its address waits for the message's lock.
        await endJobs(store, queue, underWay);
    }

    /** Resolves with the jobs that are under way, which journal their own end. */
    async #refuse(message: MessageRecord, error: MediaError): Promise<string[]> {
        const { store, reservations, queue } = this.#parts;
        const finishedAt = Date.now();
        const refused: MessageRecord = {
            ...message,
            state: "refused",
            error: storedError(error),
            finishedAt,
        };
        const unused: Reservation[] = [];
        const cancelled: Job[] = [];
        const underWay: string[] = [];
        await queue.locks.hold(message.jobs, async () => {
            const jobs = (await loadJobs(store, message.jobs)).filter((job) => applies(job, "cancel"));
            const writes = jobs.flatMap((job) => {
                if (job.state === "transferring" || job.state === "completing") {
                    underWay.push(job.id);
                    return [];
                }
                const after = transition(job, { type: "cancel", at: finishedAt });
                if (after === undefined) return [];
                // Of a job that never began nobody has seen it.
                const reservation = job.state === "reserved" ? reservationOf(job) : undefined;
                if (reservation !== undefined) unused.push(reservation);
                cancelled.push(after);
                return [...jobWrites(job, after), ...jobEndWrites(job, after)];
            });
            await store.commit([
                messageWrite({ ...refused, content: {} }),
                { collection: OUTBOX, key: outboxKey(message) },
                finishedWrite(finishedAt, "message", message.id),
                // Its files' keys are to be forgotten, and those under way ended, should the process end before that.
                ...(message.encrypted === true || underWay.length > 0 ? [reviseMark(message.id)] : []),
                ...uneditedWrites(message),
                ...writes,
                ...unused.map((reservation) => reservations.keptWrite(reservation)),
            ]);
        });
        for (const reservation of unused) reservations.giveBack(reservation);
        for (const job of cancelled) this.#parts.onJob(job);
        this.#parts.onOutcome(refused, error);
        return underWay;
    }
}

function thumbnailsFirst(jobs: readonly Job[]): Job[] {
    return jobs.toSorted((one, other) => Number(isThumbnail(other.at)) - Number(isThumbnail(one.at)));
}
