import { EventEmitter } from "node:events";
import { MediaError } from "../errors.ts";
import type { MessageRecord } from "./records.ts";

/** Joins the calls of `send()` that wait with the outcomes that the outbox journals. */
export class Outcomes {
    readonly #waiting = new EventEmitter().setMaxListeners(0);
    #closed = false;

    /** Resolves with the message as it ended; rejects with CLOSED when the component closes first. */
    of(id: string): Promise<MessageRecord> {
        return new Promise((resolve, reject) => {
            if (this.#closed) return reject(new MediaError("CLOSED"));
            this.#waiting.once(nameOf(id), (message: MessageRecord | undefined) => {
                if (message === undefined) reject(new MediaError("CLOSED"));
                else resolve(message);
            });
        });
    }

    ended(message: MessageRecord): void {
        this.#waiting.emit(nameOf(message.id), message);
    }

    close(): void {
        this.#closed = true;
        for (const id of this.#waiting.eventNames()) this.#waiting.emit(id, undefined);
    }
}

/** A remote id may well be `error`, which means something to an emitter. */
function nameOf(id: string): string {
    return `message ${id}`;
}
