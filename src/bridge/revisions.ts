import type { Logger } from "../logger.ts";
import type { Store } from "../store/store.ts";
import { contentFor, replacement, reply } from "./event-content.ts";
import {
    hashOf,
    loadJobs,
    loadMessage,
    type MessageRecord,
    messageWrite,
    outboxWrite,
    REVISE,
    transactionIdOf,
} from "./records.ts";

/**
 * Keeps events true to their files. When a file has failed, or came after all, its message is marked in the same
 * journal step; here each marked message's content is worked out anew, and where it differs from what the room shows,
 * an edit joins the room's line. Mark, edit and line are one step again, so a crash repeats or loses none of it.
 */
export interface RevisionsParts {
    readonly store: Store;
    readonly logger: Logger;
    readonly onFailure: "notice" | "keep";
    readonly nextSequence: () => string;
    /** Told after an edit is journaled. */
    readonly onQueued: (edit: MessageRecord) => void;
}

const BATCH = 64;
const RETRY_MS = 1000;

export class Revisions {
    readonly #parts: RevisionsParts;
    #working: Promise<void> | undefined;
    #again = false;
    #closed = false;
    #retry: NodeJS.Timeout | undefined;

    constructor(parts: RevisionsParts) {
        this.#parts = parts;
    }

    /** Works off the marks; to be called at the start, when a mark was journaled, and when a marked message was sent. */
    poke(): void {
        if (this.#closed) return;
        this.#again = true;
        this.#working ??= this.#work()
            .catch((error: unknown) => {
                this.#parts.logger.error("Events could not be brought up to date and will be tried again", { error });
                this.#retry = setTimeout(() => this.poke(), RETRY_MS);
            })
            .finally(() => {
                this.#working = undefined;
                // Asked for after the last look and before this line.
                if (this.#again) this.poke();
            });
    }

    async close(): Promise<void> {
        this.#closed = true;
        clearTimeout(this.#retry);
        await this.#working;
    }

    async #work(): Promise<void> {
        while (this.#again && !this.#closed) {
            this.#again = false;
            let after: string | undefined;
            do {
                const range = { collection: REVISE, limit: BATCH, ...(after !== undefined && { after }) };
                after = undefined;
                for await (const id of this.#parts.store.keys(range)) {
                    await this.#revise(id);
                    after = id;
                }
            } while (after !== undefined);
        }
    }

    async #revise(id: string): Promise<void> {
        const { store, onFailure } = this.#parts;
        const done = { collection: REVISE, key: id };
        const message = await loadMessage(store, id);
        // A message still in line is sent as it then stands; its mark stays until that has happened.
        if (message?.state === "queued") return;
        if (message === undefined || message.eventId === undefined) return store.commit([done]);
        const content = contentFor(message.content, await loadJobs(store, message.jobs), onFailure);
        const shown = hashOf(content);
        if (shown === message.shown) return store.commit([done]);
        const edit = this.#editOf(message, content);
        await store.commit([
            done,
            messageWrite({ ...message, shown, revisions: message.revisions + 1 }),
            messageWrite(edit),
            outboxWrite(edit),
        ]);
        this.#parts.onQueued(edit);
    }

    #editOf(message: MessageRecord, content: MessageRecord["content"]): MessageRecord {
        const { roomId, sender, eventId = "" } = message;
        // No id of a caller's holds a control character, so these two kinds never meet.
        const id = `${message.id}\u0001${message.revisions + 1}`;
        const isMessage = message.eventType === "m.room.message";
        return {
            id,
            roomId,
            sender,
            eventType: "m.room.message",
            content: isMessage ? replacement(eventId, content) : reply(eventId, content),
            sequence: this.#parts.nextSequence(),
            transactionId: transactionIdOf({ roomId, sender, id }),
            fingerprint: "",
            state: "queued",
            jobs: [],
            revisions: 0,
        };
    }
}
