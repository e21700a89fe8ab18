import { got } from "got";
import { AS_TOKEN } from "./config.ts";
import type { SynapseWorld } from "./world.ts";

/** What a client sees of a room and its media. */

export interface SeenEvent {
    readonly event_id: string;
    readonly type: string;
    readonly sender: string;
    readonly origin_server_ts: number;
    readonly content: Readonly<Record<string, unknown>>;
}

/** The room's messages from the first on, edits among them. */
export async function messages(world: SynapseWorld, roomId: string): Promise<SeenEvent[]> {
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
    return found.filter(({ type }) => type === "m.room.message");
}

/** The messages without their edits. */
export async function originals(world: SynapseWorld, roomId: string): Promise<SeenEvent[]> {
    return (await messages(world, roomId)).filter(({ content }) => !("m.new_content" in content));
}

export async function bodies(world: SynapseWorld, roomId: string): Promise<string[]> {
    return (await originals(world, roomId)).map(({ content }) => String(content["body"]));
}

/** What a client shows in an event's place: the newest edit, as Synapse bundles it with the event; else undefined. */
export async function shownInstead(
    world: SynapseWorld,
    roomId: string,
    eventId: string,
): Promise<Record<string, unknown> | undefined> {
    const path = `/v3/rooms/${encodeURIComponent(roomId)}/event/${encodeURIComponent(eventId)}`;
    const event = (await world.request(world.bot, "GET", path)) as {
        unsigned?: { "m.relations"?: { "m.replace"?: { content: Record<string, Record<string, unknown>> } } };
    };
    return event.unsigned?.["m.relations"]?.["m.replace"]?.content["m.new_content"];
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
            return { status: answer.statusCode, body: Buffer.from(answer.body) };
    }
}
