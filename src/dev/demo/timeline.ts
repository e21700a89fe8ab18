import { isObject, type Json, objectOf, textOf } from "./json.ts";
import type { MatrixApi } from "./matrix-api.ts";

/** The demo's own key in each event's content: tells which remote message the event is. */
export const REMOTE_ID = "org.matrix_bridge_media.demo.remote_id";

/** A message as it stands in the room. */
export interface Entry {
    readonly remoteId: string;
    readonly eventId: string;
    readonly sender: string;
    readonly type: string;
    readonly original: Json;
    /** After the last edit. */
    content: Json;
    edited: boolean;
}

/** A room's messages in the order in which the homeserver accepted them, read forward from the room's beginning. */
export class Timeline {
    readonly entries: Entry[] = [];
    readonly #api: MatrixApi;
    readonly #path: string;
    readonly #byEventId = new Map<string, Entry>();
    readonly #seen = new Set<string>();
    #from: string | undefined;

    constructor(api: MatrixApi, roomId: string) {
        this.#api = api;
        this.#path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/messages`;
    }

    /** Reads on to the present; returns the messages that were added and those that were edited. */
    async catchUp(): Promise<{ readonly added: readonly Entry[]; readonly edited: readonly Entry[] }> {
        const known = this.entries.length;
        const edited = new Set<Entry>();
        while (true) {
            const query = { dir: "f", limit: 100, from: this.#from };
            const { chunk, end } = await this.#api.request("GET", this.#path, { query });
            const events = Array.isArray(chunk) ? chunk.filter(isObject) : [];
            for (const event of events) this.#take(event, edited);
            // At the end of what there is, a homeserver may leave `end` out; the next look starts at the last one known.
            if (typeof end !== "string" || end === this.#from || events.length === 0) break;
            this.#from = end;
        }
        const added = this.entries.slice(known);
        return { added, edited: [...edited].filter((entry) => !added.includes(entry)) };
    }

    #take(event: Json, edited: Set<Entry>): void {
        const { event_id: eventId, sender, type, content } = event;
        if (typeof eventId !== "string" || typeof sender !== "string" || this.#seen.has(eventId)) return;
        this.#seen.add(eventId);
        const shown = objectOf(content);
        const relation = objectOf(shown["m.relates_to"]);
        if (relation["rel_type"] === "m.replace") {
            const original = this.#byEventId.get(textOf(relation["event_id"]));
            if (original === undefined || original.sender !== sender) return;
            original.content = objectOf(shown["m.new_content"]);
            original.edited = true;
            edited.add(original);
            return;
        }
        const remoteId = shown[REMOTE_ID];
        if (typeof remoteId !== "string") return;
        const entry: Entry = {
            remoteId,
            eventId,
            sender,
            type: textOf(type),
            original: shown,
            content: shown,
            edited: false,
        };
        this.entries.push(entry);
        this.#byEventId.set(eventId, entry);
    }
}

/** What stands at `path` in an event's content. */
export function at(content: Json, path: readonly string[]): unknown {
    return path.reduce<unknown>((value, key) => objectOf(value)[key], content);
}
