import { MediaError } from "../errors.ts";
import { type Job, thrownAgain } from "../uploads/job.ts";
import type { Admitted } from "./admission.ts";
import type { Parts } from "./assembly.ts";
import { type Editable, editableMessage, foreignId } from "./edits.ts";
import type { RemoteMessage } from "./message.ts";
import { fingerprintOf, type MessageRecord } from "./records.ts";

/**
 * The calls of `send()` and `edit()` that have not come to their end. A known id joins the call that is under way.
 *
 * Calls keep the order in which they were made. A message takes its place in its room's line at once; an edit first has to
 * look up which room that is, so what is called after it waits until it has its place. Where nobody edits, nobody waits.
 */
export interface SendingsParts
    extends Pick<Parts, "store" | "admission" | "backlog" | "outcomes" | "outbox" | "metrics"> {
    /** Throws where nothing more is taken. */
    readonly assertOpen: () => void;
    /** Told about each job that came with a message, once it is journaled. */
    readonly onJob: (job: Job) => void;
}

interface Sending {
    readonly sending: Promise<MessageRecord>;
    readonly admitting: Promise<Admitted>;
    /** What an edit of it edits. */
    readonly original: Editable;
}

export class Sendings {
    readonly #parts: SendingsParts;
    readonly #underWay = new Map<string, Sending>();
    /** Resolves when every edit that was called so far has its place, or has failed; undefined when there is none. */
    #lookingUp: Promise<void> | undefined;

    constructor(parts: SendingsParts) {
        this.#parts = parts;
    }

    /** Resolves with the message as the homeserver has accepted it. */
    send(message: RemoteMessage): Promise<MessageRecord> {
        if (this.#lookingUp === undefined) return this.#join(message, message);
        return this.#lookingUp.then(() => this.#join(message, message));
    }

    /** The same for an edit of `messageId`; `messageOf` makes it from what is known of its original. */
    edit(messageId: string, messageOf: (original: Editable) => RemoteMessage): Promise<MessageRecord> {
        const before = this.#lookingUp ?? Promise.resolve();
        const placed = before.then(async () => {
            // One that is just being sent has its place in the line already, so an edit now stands behind it.
            const underWay = this.#underWay.get(messageId);
            const original = underWay?.original ?? (await editableMessage(this.#parts.store, messageId));
            const message = messageOf(original);
            const edited = this.#underWay.get(message.id)?.original.id ?? original.id;
            if (message.id === original.id || edited !== original.id) throw foreignId(message.id);
            // In an object: its place is what others wait for, not its end.
            return { sending: this.#join(message, original, original.id) };
        });
        const lookedUp = placed.then(ignore, ignore);
        this.#lookingUp = lookedUp;
        void lookedUp.finally(() => {
            if (this.#lookingUp === lookedUp) this.#lookingUp = undefined;
        });
        return placed.then(({ sending }) => sending);
    }

    /** Resolves when a message that was given before is journaled, or has failed to be; undefined where none is on its way. */
    admitting(messageId: string): Promise<unknown> | undefined {
        const underWay = (): Promise<unknown> | undefined => this.#underWay.get(messageId)?.admitting.catch(ignore);
        return this.#lookingUp === undefined ? underWay() : this.#lookingUp.then(underWay);
    }

    /** Resolves when every call has come to its end. */
    async quiet(): Promise<void> {
        await this.#lookingUp;
        await Promise.allSettled([...this.#underWay.values()].map(({ sending }) => sending));
    }

    #join(message: RemoteMessage, original: Editable, edits?: string): Promise<MessageRecord> {
        this.#parts.assertOpen();
        const underWay = this.#underWay.get(message.id);
        if (underWay !== undefined) {
            const again = fingerprintOf(message);
            const compare = ({ message: first }: Admitted) => this.#parts.admission.compare(first, again, edits);
            underWay.admitting.then(compare, ignore);
            return underWay.sending;
        }
        const began = performance.now();
        const { id } = message;
        const admitting = this.#admit(message, edits);
        const sending = this.#send(admitting, began).finally(() => this.#underWay.delete(id));
        // Of the message itself nothing is kept: what it hands over is spooled, and may wait here for days.
        this.#underWay.set(id, { sending, admitting, original: editable(original) });
        return sending;
    }

    async #send(admitting: Promise<Admitted>, began: number): Promise<MessageRecord> {
        const { message: record, isNew } = await admitting;
        const outcome = record.state === "queued" ? await this.#outcomeOf(record) : record;
        if (outcome.state === "refused") throw refusal(outcome);
        if (isNew) this.#parts.metrics.sendTook(performance.now() - began, hasFiles(record) ? "media" : "text");
        return outcome;
    }

    async #admit(message: RemoteMessage, edits: string | undefined): Promise<Admitted> {
        const { admission, backlog, onJob } = this.#parts;
        const files = message.media?.length ?? 0;
        let entered = false;
        try {
            const stillRoom = (): void => {
                backlog.enter(1, files);
                entered = true;
            };
            const admitted = await admission.admit(message, stillRoom, edits);
            // Files that are there already need no job.
            if (entered) backlog.add(0, admitted.jobs.length - files);
            for (const job of admitted.jobs) onJob(job);
            return admitted;
        } catch (error) {
            if (entered) backlog.add(-1, -files);
            throw error;
        }
    }

    #outcomeOf({ id, roomId }: MessageRecord): Promise<MessageRecord> {
        // Listening before the lane is woken: the outcome may come at once.
        const outcome = this.#parts.outcomes.of(id);
        this.#parts.outbox.notify(roomId);
        return outcome;
    }
}

function ignore(): void {}

function editable({ id, roomId, sender, encrypted }: Editable): Editable {
    return { id, roomId, sender, encrypted };
}

function hasFiles({ jobs, shared }: MessageRecord): boolean {
    return jobs.length > 0 || shared !== undefined;
}

function refusal({ error }: MessageRecord): MediaError {
    return error === undefined ? new MediaError("EVENT_REFUSED") : thrownAgain(error);
}
