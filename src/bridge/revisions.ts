import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { Store, Write } from "../store/store.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import { areKeysForgotten, forgetKeys, hasNoFileYet } from "./encrypted-files.ts";
import { contentFor, failedMain, type FailurePolicy, withUris } from "./event-content.ts";
import type { FailureQuestions } from "./failure-questions.ts";
import { isTakenBack, revisionId } from "./edits.ts";
import { editOf, type EditOf } from "./outgoing.ts";
import {
    hashOf,
    isEdit,
    loadJobs,
    loadMessage,
    type MessageRecord,
    messageWrite,
    newestContent,
    outboxWrite,
    markedMessage,
    REVISE,
    transactionIdOf,
    uneditedWrites,
} from "./records.ts";

/**
 * Keeps events true to their files. When a file has failed, or came after all, its message is marked in the same
 * journal step; here each marked message's content is worked out anew, and where it differs from what the room shows,
 * an edit joins the room's line. Mark, edit and line are one step again, so a crash repeats or loses none of it.
 */
export interface RevisionsParts {
    readonly store: Store;
    readonly logger: Logger;
    readonly onFailure: FailurePolicy;
    /** Asks the embedder what is to be shown, where it wants to be asked. */
    readonly questions: FailureQuestions;
    /** Held by whoever changes a message's record, from reading it until the change is journaled. */
    readonly messageLocks: KeyedLocks;
    readonly nextSequence: () => string;
    /** Ends a message's jobs. */
    readonly endJobs: (ids: readonly string[]) => Promise<void>;
    /** Told when an edit was handed to the store. */
    readonly onHandedOver: (edit: MessageRecord, committed: Promise<void>) => void;
    /** Told after an edit is journaled. */
    readonly onQueued: (edit: MessageRecord) => void;
}

const BATCH = 64;
const RETRY_MS = 1000;

export class Revisions {
    readonly #parts: RevisionsParts;
    #working: Promise<void> | undefined;
    #again = false;
    #isOpen = false;
    #retry: NodeJS.Timeout | undefined;

    constructor(parts: RevisionsParts) {
        this.#parts = parts;
    }

    /** To be called once places in the rooms' lines can be taken. */
    start(): void {
        this.#isOpen = true;
        this.poke();
    }

    /** Works off the marks; to be called when a mark was journaled, and when a marked message was sent. */
    poke(): void {
        if (!this.#isOpen) return;
        this.#again = true;
        this.#working ??= this.#work()
            .catch((error: unknown) => {
                const text = "Events could not be brought up to date and will be tried again";
                this.#parts.logger.error(text, { error: loggable(error) });
                this.#retry = setTimeout(() => this.poke(), RETRY_MS);
            })
            .finally(() => {
                this.#working = undefined;
                // Asked for after the last look and before this line.
                if (this.#again) this.poke();
            });
    }

    async close(): Promise<void> {
        this.#isOpen = false;
        clearTimeout(this.#retry);
        await this.#working;
    }

    async #work(): Promise<void> {
        while (this.#again && this.#isOpen) {
            this.#again = false;
            let after: string | undefined;
            do {
                const range = { collection: REVISE, limit: BATCH, ...(after !== undefined && { after }) };
                after = undefined;
                const marks = new Map<string, Write[]>();
                for await (const key of this.#parts.store.keys(range)) {
                    const id = markedMessage(key);
                    marks.set(id, [...(marks.get(id) ?? []), { collection: REVISE, key }]);
                    after = key;
                }
                for (const [id, own] of marks) {
                    await this.#endFilesOfOver(id);
                    await this.#parts.messageLocks.hold([id], () => this.#revise(id, own));
                }
            } while (after !== undefined);
        }
    }

    /**
     * Whoever took a message back, or had it refused, ends its files; here, in case the process ended before that. Not under the message's lock,
     * which a transfer that is just replacing its address waits for.
     */
    async #endFilesOfOver(id: string): Promise<void> {
        const message = await loadMessage(this.#parts.store, id);
        const isOver = message?.state === "refused" || (message?.state === "sent" && isTakenBack(message));
        if (isOver) await this.#parts.endJobs(message.jobs);
    }

    /** @param marks Those that were there before the look. */
    async #revise(id: string, marks: readonly Write[]): Promise<void> {
        const { store, onFailure, questions } = this.#parts;
        const message = await loadMessage(store, id);
        // A message still in line is sent as it then stands; its mark stays until that has happened.
        if (message?.state === "queued") return;
        if (message === undefined) return store.commit(marks);
        const jobs = await loadJobs(store, message.jobs);
        const isOver = message.eventId === undefined || message.redacted === true;
        const over = [...marks, ...(await forgetKeys(store, message, jobs, isOver))];
        // A redaction is the last word on an event: what would still be said of it has no place any more.
        if (message.redacted === true) this.#parts.logger.info("A redacted event is left as it is", { id });
        if (isOver) return store.commit(over);
        // A redaction shows no file, so it needs no keys.
        const isLeft =
            message.redact !== true &&
            (areKeysForgotten(jobs) || jobs.some((job) => job.encryption !== undefined && hasNoFileYet(job)));
        if (isLeft) return store.commit(over);
        const main = failedMain(message.content, jobs);
        if (message.redact === true || (main !== undefined && onFailure.mode === "redact")) {
            const redaction = { eventType: "m.room.redaction", redacts: message.eventId ?? "", content: {} };
            const forgotten = await forgetKeys(store, message, jobs, true);
            const also = [...marks, ...forgotten, ...uneditedWrites(message)];
            await this.#queue(message, redaction, { redacted: true }, also);
            // The message it edited is marked now.
            if (isEdit(message)) this.poke();
            return;
        }
        // No file of its own: nothing that happens changes what its event shows.
        if (message.jobs.length === 0) return store.commit(over);
        const text = withUris(await newestContent(store, message), message.shared);
        if (main !== undefined && onFailure.mode === "callback") {
            // Its answer is journaled and calls for another look; the mark stays until then.
            if (!questions.isAnswered(message, main, text))
                return questions.ask(message, main, text, contentFor(text, jobs, onFailure));
        }
        const content = contentFor(text, jobs, onFailure, message.failure);
        const shown = hashOf(content);
        if (shown === message.shown) return store.commit(over);
        await this.#queue(message, editOf(message, content), { shown }, over);
    }

    /** Takes the mark away, notes what the room will show, and puts what brings that about into the room's line. */
    async #queue(
        message: MessageRecord,
        what: EditOf & { readonly redacts?: string },
        noted: Pick<MessageRecord, "shown"> | Pick<MessageRecord, "redacted">,
        over: readonly Write[],
    ): Promise<void> {
        const edit = this.#recordOf(message, what);
        const committed = this.#parts.store.commit([
            ...over,
            messageWrite({ ...message, ...noted, revisions: message.revisions + 1, revisedAt: edit.sequence }),
            messageWrite(edit),
            outboxWrite(edit),
        ]);
        this.#parts.onHandedOver(edit, committed);
        await committed;
        this.#parts.onQueued(edit);
    }

    #recordOf(
        message: MessageRecord,
        { eventType, content, redacts }: EditOf & { readonly redacts?: string },
    ): MessageRecord {
        const { roomId, sender, encrypted, hasCrypto } = message;
        const id = revisionId(message);
        return {
            id,
            roomId,
            sender,
            // As the event was; what was in the clear goes by what its room is now.
            encrypted: encrypted === true ? true : undefined,
            hasCrypto,
            eventType,
            content,
            redacts,
            sequence: this.#parts.nextSequence(),
            transactionId: transactionIdOf({ roomId, sender, id }),
            fingerprint: "",
            state: "queued",
            jobs: [],
            revisions: 0,
        };
    }
}
