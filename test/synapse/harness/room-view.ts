import { got } from "got";
import { until } from "../../support/until.ts";
import { AS_TOKEN } from "./config.ts";
import { isCreate } from "./proxy.ts";
import type { SynapseWorld } from "./world.ts";

/** What a client sees of a room and its media. */

export interface SeenEvent {
    readonly event_id: string;
    readonly type: string;
    readonly sender: string;
    readonly origin_server_ts: number;
    readonly content: Readonly<Record<string, unknown>>;
    readonly unsigned?: { readonly "m.relations"?: { readonly "m.replace"?: SeenEvent } };
}

/** Everything said in the room, of any type, from the first event on. */
export async function timeline(world: SynapseWorld, roomId: string): Promise<SeenEvent[]> {
    const found: SeenEvent[] = [];
    let from = "";
    while (true) {
        const page = await world.request(
            world.bot,
            "GET",
            `/v3/rooms/${encodeURIComponent(roomId)}/messages?dir=f&limit=500${from}`,
        );
        found.push(...(page["chunk"] as SeenEvent[]));
        if (typeof page["end"] !== "string") break;
        from = `&from=${encodeURIComponent(page["end"])}`;
    }
    return found.filter((event) => !("state_key" in event));
}

/** The room's messages from the first on, edits among them. */
export async function messages(world: SynapseWorld, roomId: string): Promise<SeenEvent[]> {
    return (await timeline(world, roomId)).filter(({ type }) => type === "m.room.message");
}

/** The messages without their edits. */
export async function originals(world: SynapseWorld, roomId: string): Promise<SeenEvent[]> {
    return (await messages(world, roomId)).filter(({ content }) => !("m.new_content" in content));
}

export async function bodies(world: SynapseWorld, roomId: string): Promise<string[]> {
    return (await originals(world, roomId)).map(({ content }) => String(content["body"]));
}

/** One event, asked for by its id. */
export async function eventById(world: SynapseWorld, roomId: string, eventId: string): Promise<SeenEvent> {
    const path = `/v3/rooms/${encodeURIComponent(roomId)}/event/${encodeURIComponent(eventId)}`;
    return (await world.request(world.bot, "GET", path)) as unknown as SeenEvent;
}

/** The newest edit of an event, as Synapse bundles it with the event; else undefined. */
export function bundledEdit(event: SeenEvent | undefined): SeenEvent | undefined {
    return event?.unsigned?.["m.relations"]?.["m.replace"];
}

/** What a client shows in an event's place: what its newest edit says; undefined where there is none. */
export async function shownInstead(
    world: SynapseWorld,
    roomId: string,
    eventId: string,
): Promise<Record<string, unknown> | undefined> {
    const edit = bundledEdit(await eventById(world, roomId, eventId));
    return edit?.content["m.new_content"] as Record<string, unknown> | undefined;
}

/** The events that relate to this one, oldest first: its edits, or what stands in its thread. */
export async function related(
    world: SynapseWorld,
    roomId: string,
    eventId: string,
    type: "m.replace" | "m.thread" = "m.replace",
): Promise<SeenEvent[]> {
    const [room, event] = [encodeURIComponent(roomId), encodeURIComponent(eventId)];
    const path = `/v1/rooms/${room}/relations/${event}/${type}?dir=f&limit=100`;
    return (await world.request(world.bot, "GET", path))["chunk"] as SeenEvent[];
}

/** Every MXC address in a message's content, in the order of its keys. */
export function mxcs(value: unknown): string[] {
    if (typeof value === "string") return value.startsWith("mxc://") ? [value] : [];
    if (typeof value !== "object" || value === null) return [];
    return Object.values(value).flatMap(mxcs);
}

/** Downloads as a client does: authenticated, and willing to wait that long for the bytes. */
export async function download(world: SynapseWorld, mxc: string, timeoutMs = 20_000) {
    const path = mxc.replace("mxc://", "/_matrix/client/v1/media/download/");
    const end = Date.now() + timeoutMs;
    while (true) {
        const answer = await got(`${world.synapse.url}${path}`, {
            // Synapse itself waits a minute at most (`max_timeout_ms` in its media repository), and answers 504 then.
            searchParams: { timeout_ms: Math.max(0, Math.min(end - Date.now(), 60_000)) },
            headers: { authorization: `Bearer ${AS_TOKEN}` },
            responseType: "buffer",
            throwHttpErrors: false,
            retry: { limit: 0 },
        });
        if (answer.statusCode !== 504 || Date.now() >= end)
            return { status: answer.statusCode, headers: answer.headers, body: Buffer.from(answer.body) };
    }
}

/** Waits until Synapse has taken an address back because its file did not come. */
export async function untilTakenBack(world: SynapseWorld, mxc: string): Promise<void> {
    const ends = reserved(world).get(mxc) ?? 0;
    await until(() => Date.now() > ends);
    await until(async () => (await download(world, mxc, 0)).status === 404, { what: `the end of ${mxc}` });
}

/** The addresses that Synapse handed out since the proxy was reset, and when each of them ends. */
export function reserved({ proxy }: SynapseWorld): Map<string, number> {
    const found = new Map<string, number>();
    for (const exchange of proxy.exchanges) {
        if (!isCreate(exchange) || exchange.status !== 200) continue;
        const body = JSON.parse(exchange.body ?? "") as { content_uri: string; unused_expires_at: number };
        found.set(body.content_uri, body.unused_expires_at);
    }
    return found;
}
