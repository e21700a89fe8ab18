import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logger.ts";
import type { Store } from "../store/store.ts";
import { Closing } from "./closing.ts";
import { loadMessage, type MessageRecord, OUTBOX } from "./records.ts";

/**
 * The rooms' ordered lines of events.
 *
 * Each room with something to send has one lane: it takes the first message of the room's line, has it delivered, which
 * journals the outcome and takes it out of the line, and only then takes the next. Lanes run side by side. Only the first
 * message of a line can have been sent by a former process, because the next is not sent before its outcome is journaled.
 */
export interface OutboxParts {
    readonly store: Store;
    readonly logger: Logger;
    /**
     * Brings one message to its end. Rejects, with the message still in line, for what passes.
     * @param mayBeSent Whether an earlier try may have reached the homeserver.
     */
    readonly deliver: (message: MessageRecord, mayBeSent: boolean) => Promise<void>;
    /** Aborts when the component closes, and a while after. */
    readonly closing: Closing;
}

const LANE_RETRY_MS = 1000;

export class Outbox {
    readonly #parts: OutboxParts;
    readonly #lanes = new Map<string, { again: boolean; readonly done: Promise<void> }>();

    constructor(parts: OutboxParts) {
        this.#parts = parts;
    }

    /** Opens a lane for every room that an earlier run left something for. */
    async start(): Promise<void> {
        // All rooms first: lanes that work already would only slow down the looking.
        for (const roomId of await this.#rooms()) this.#open(roomId, true);
    }

    async #rooms(): Promise<string[]> {
        const rooms: string[] = [];
        let after: string | undefined;
        do {
            const previous: string | undefined = after;
            after = undefined;
            const range = { collection: OUTBOX, limit: 1, ...(previous !== undefined && { after: previous }) };
            for await (const key of this.#parts.store.keys(range)) {
                const [roomId = ""] = key.split(" ");
                rooms.push(roomId);
                // On to the next room, however long this one's line is.
                after = `${roomId} \u{10FFFF}`;
            }
        } while (after !== undefined);
        return rooms;
    }

    /** Tells that the room's line has grown. */
    notify(roomId: string): void {
        const lane = this.#lanes.get(roomId);
        if (lane === undefined) this.#open(roomId, false);
        else lane.again = true;
    }

    /** Lets sendings that are under way come to their end, begins no other. */
    async close(): Promise<void> {
        await this.#parts.closing.begin(() => Promise.all([...this.#lanes.values()].map(({ done }) => done)));
    }

    #open(roomId: string, doubtful: boolean): void {
        if (this.#parts.closing.signal.aborted) return;
        const lane = { again: true, done: Promise.resolve() };
        this.#lanes.set(roomId, lane);
        lane.done = this.#run(roomId, lane, doubtful).finally(() => {
            this.#lanes.delete(roomId);
            // Told after the last look and before this line.
            if (lane.again) this.#open(roomId, false);
        });
    }

    async #run(roomId: string, lane: { again: boolean }, doubtful: boolean): Promise<void> {
        let mayBeSent = doubtful;
        while (lane.again) {
            lane.again = false;
            try {
                for (
                    let message = await this.#first(roomId);
                    message !== undefined;
                    message = await this.#first(roomId)
                ) {
                    await this.#parts.deliver(message, mayBeSent);
                    mayBeSent = false;
                }
            } catch (error) {
                if (this.#parts.closing.signal.aborted) return;
                this.#parts.logger.error("A room's line could not go on and will be tried again", { roomId, error });
                await sleep(LANE_RETRY_MS, undefined, { signal: this.#parts.closing.signal }).catch(() => {});
                mayBeSent = true;
                lane.again = true;
            }
        }
    }

    async #first(roomId: string): Promise<MessageRecord | undefined> {
        const { store } = this.#parts;
        for await (const [key, record] of store.range({ collection: OUTBOX, prefix: `${roomId} `, limit: 1 })) {
            this.#parts.closing.signal.throwIfAborted();
            const message = await loadMessage(store, String(record["id"]));
            if (message !== undefined && message.state === "queued") return message;
            // Its record was lost to damage, which the store has reported.
            await store.commit([{ collection: OUTBOX, key }]);
            return this.#first(roomId);
        }
        return undefined;
    }
}
