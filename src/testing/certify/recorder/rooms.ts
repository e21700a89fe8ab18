/** The rooms of the recording homeserver: what was accepted, in its order. */

export type Content = { readonly [key: string]: unknown };

export interface RecordedEvent {
    readonly event_id: string;
    readonly room_id: string;
    readonly type: string;
    readonly sender: string;
    readonly content: Content;
    readonly origin_server_ts: number;
    readonly transactionId: string;
    readonly redacts?: string;
}

export class Rooms {
    readonly #events = new Map<string, RecordedEvent[]>();
    #count = 0;

    /**
     * No transaction id is remembered, as by a homeserver that restarts at the worst moments: whoever sends twice has
     * sent twice.
     */
    accept(event: Omit<RecordedEvent, "event_id" | "origin_server_ts">): string {
        const event_id = `$event-${++this.#count}`;
        const events = this.#events.get(event.room_id) ?? [];
        events.push({ ...event, event_id, origin_server_ts: Date.now() });
        this.#events.set(event.room_id, events);
        return event_id;
    }

    /** In the order in which they were accepted. */
    events(roomId: string): readonly RecordedEvent[] {
        return this.#events.get(roomId) ?? [];
    }

    /** `GET /messages` backwards, as `viewer` sees it: with the transaction ids of its own events. */
    page(roomId: string, viewer: string, query: URLSearchParams): Content {
        const senders = sendersIn(query.get("filter"));
        const limit = Number(query.get("limit") ?? 10);
        const all = this.events(roomId);
        const end = query.has("from") ? Number(query.get("from")) : all.length;
        const chunk: Content[] = [];
        let index = end;
        while (index > 0 && chunk.length < limit) {
            const event = all[--index];
            if (event === undefined || (senders !== undefined && !senders.includes(event.sender))) continue;
            const { transactionId, ...shown } = event;
            chunk.push(event.sender === viewer ? { ...shown, unsigned: { transaction_id: transactionId } } : shown);
        }
        return { chunk, start: String(end), ...(chunk.length > 0 && { end: String(index) }) };
    }
}

function sendersIn(filter: string | null): readonly string[] | undefined {
    return filter === null ? undefined : (JSON.parse(filter) as { senders?: string[] }).senders;
}
