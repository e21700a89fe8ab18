/** One room: its timeline, and what the timeline adds up to. Every look-up is by key; nothing walks the timeline. */
import { redactedEvent, type StoredEvent } from "./event.ts";
import { type JsonObject, textAt } from "./json.ts";

const stateKey = (type: string, key: string): string => `${type}\0${key}`;

export class Room {
    readonly id: string;
    readonly #events: StoredEvent[] = [];
    readonly #indexById = new Map<string, number>();
    readonly #state = new Map<string, StoredEvent>();
    readonly #joined = new Set<string>();
    /** IDs of the events that relate to an event, oldest first. */
    readonly #relations = new Map<string, string[]>();

    constructor(id: string) {
        this.id = id;
    }

    get events(): readonly StoredEvent[] {
        return this.#events;
    }

    get joined(): ReadonlySet<string> {
        return this.#joined;
    }

    get allState(): StoredEvent[] {
        return [...this.#state.values()];
    }

    apply(event: StoredEvent): void {
        this.#indexById.set(event.event_id, this.#events.push(event) - 1);
        if (event.state_key !== undefined) this.#state.set(stateKey(event.type, event.state_key), event);
        if (event.type === "m.room.member" && event.state_key !== undefined) {
            if (event.content["membership"] === "join") this.#joined.add(event.state_key);
            else this.#joined.delete(event.state_key);
        }
        if (event.type === "m.room.redaction" && event.redacts !== undefined) this.#redact(event.redacts, event);
        const target = relatedEventId(event.content);
        if (target !== undefined) {
            const related = this.#relations.get(target);
            if (related === undefined) this.#relations.set(target, [event.event_id]);
            else related.push(event.event_id);
        }
    }

    find(eventId: string): StoredEvent | undefined {
        const index = this.#indexById.get(eventId);
        return index === undefined ? undefined : this.#events[index];
    }

    state(type: string, key = ""): StoredEvent | undefined {
        return this.#state.get(stateKey(type, key));
    }

    membership(userId: string): string | undefined {
        const membership = this.state("m.room.member", userId)?.content["membership"];
        return typeof membership === "string" ? membership : undefined;
    }

    /** Oldest first. A redacted event no longer relates to anything. */
    relatedTo(eventId: string): StoredEvent[] {
        return (this.#relations.get(eventId) ?? [])
            .map((id) => this.find(id))
            .filter((event) => event !== undefined)
            .filter((event) => relatedEventId(event.content) === eventId);
    }

    /** How many of the room's events are at or before this place in the server's stream. */
    countUpTo(streamOrdering: number): number {
        let low = 0;
        let high = this.#events.length;
        while (low < high) {
            const middle = (low + high) >>> 1;
            if ((this.#events[middle]?.stream_ordering ?? 0) <= streamOrdering) low = middle + 1;
            else high = middle;
        }
        return low;
    }

    #redact(eventId: string, because: StoredEvent): void {
        const index = this.#indexById.get(eventId);
        const event = index === undefined ? undefined : this.#events[index];
        if (index === undefined || event === undefined) return;
        const redacted = redactedEvent(event, because);
        this.#events[index] = redacted;
        if (event.state_key === undefined) return;
        if (this.state(event.type, event.state_key) === event)
            this.#state.set(stateKey(event.type, event.state_key), redacted);
    }
}

const relatedEventId = (content: JsonObject): string | undefined => textAt(content["m.relates_to"], "event_id");
