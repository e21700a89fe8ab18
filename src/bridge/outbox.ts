import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { Store } from "../store/store.ts";
import { Closing } from "./closing.ts";
import { Line } from "./line.ts";
import { loadMessage, OUTBOX } from "./records.ts";

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
    readonly deliver: (messageId: string, mayBeSent: boolean) => Promise<void>;
    /** Whether any message may have been sent, whatever the journal says. */
    readonly isInDoubt: () => boolean;
    /** Aborts when the component closes, and a while after. */
    readonly closing: Closing;
}

const LANE_RETRY_MS = 1000;

export class Outbox {
    readonly #parts: OutboxParts;
    readonly #lanes = new Map<string, { again: boolean; readonly done: Promise<void> }>();
    readonly #lines = new Map<string, Line>();
    /** Rooms that were told of before it was known what an earlier run had left; undefined from then on. */
    #early: Set<string> | undefined = new Set();

    constructor(parts: OutboxParts) {
        this.#parts = parts;
    }

    /** Opens a lane for every room that an earlier run left something for. */
    async start(): Promise<void> {
        // All rooms first: lanes that work already would only slow down the looking.
        const rooms = await this.#rooms();
        const early = this.#early ?? [];
        for (const roomId of rooms) this.#lineOf(roomId);
        this.#early = undefined;
        for (const roomId of rooms) this.#open(roomId, true);
        for (const roomId of early) this.notify(roomId);
    }

    /** Opens or wakes the lanes of messages that have come to light in the journal. */
    async lookAgain(): Promise<void> {
        for (const roomId of await this.#rooms()) {
            this.#lineOf(roomId).reread();
            if (this.#lanes.has(roomId)) this.notify(roomId);
            else this.#open(roomId, true);
        }
    }

    /** To be called whenever something is handed to the store for the room's line, and in that order; then `notify()`. */
    append(roomId: string, messageId: string, committed: Promise<void>): void {
        this.#lineOf(roomId).append(messageId, committed);
        // Nobody calls `notify()` for what never came into the journal.
        committed.catch(() => this.notify(roomId));
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
        this.#early?.add(roomId);
        if (this.#early !== undefined) return;
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
            if (this.#lines.get(roomId)?.isOver === true) this.#lines.delete(roomId);
            // Told after the last look and before this line.
            if (lane.again) this.#open(roomId, false);
        });
    }

    async #run(roomId: string, lane: { again: boolean }, doubtful: boolean): Promise<void> {
        let mayBeSent = doubtful;
        while (lane.again) {
            lane.again = false;
            try {
                const line = this.#lineOf(roomId);
                const next = (): Promise<string | undefined> => line.first(() => this.#stored(roomId));
                for (let id = await next(); id !== undefined; id = await next()) {
                    this.#parts.closing.signal.throwIfAborted();
                    await this.#parts.deliver(id, mayBeSent || this.#parts.isInDoubt());
                    line.shift();
                    mayBeSent = false;
                }
            } catch (error) {
                if (this.#parts.closing.signal.aborted) return;
                const text = "A room's line could not go on and will be tried again";
                this.#parts.logger.error(text, { roomId, error: loggable(error) });
                await sleep(LANE_RETRY_MS, undefined, { signal: this.#parts.closing.signal }).catch(() => {});
                mayBeSent = true;
                lane.again = true;
            }
        }
    }

    #lineOf(roomId: string): Line {
        const known = this.#lines.get(roomId);
        if (known !== undefined) return known;
        const line = new Line(this.#early === undefined);
        this.#lines.set(roomId, line);
        return line;
    }

    /** The first message of the room's line in the journal. */
    async #stored(roomId: string): Promise<string | undefined> {
        const { store } = this.#parts;
        for await (const [key, record] of store.range({ collection: OUTBOX, prefix: `${roomId} `, limit: 1 })) {
            this.#parts.closing.signal.throwIfAborted();
            const message = await loadMessage(store, String(record["id"]));
            if (message !== undefined && message.state === "queued") return message.id;
            // Its record was lost to damage, which the store has reported only if there was one to be read.
            if (message === undefined) {
                const text = "A message was lost to damage before its end was journaled";
                this.#parts.logger.error(text, { id: record["id"], roomId });
            }
            await store.commit([{ collection: OUTBOX, key }]);
            return this.#stored(roomId);
        }
        return undefined;
    }
}
