import { got } from "got";
import type { Homeserver, StoredEvent } from "../../src/dev/homeserver/index.ts";
import { AS_TOKEN } from "./world.ts";

export async function download(
    homeserver: Homeserver,
    mxc: string,
    timeoutMs = 5000,
): Promise<{ status: number; body: Buffer }> {
    const path = mxc.replace("mxc://", "/_matrix/client/v1/media/download/");
    const answer = await got(`${homeserver.url}${path}`, {
        searchParams: { timeout_ms: timeoutMs },
        headers: { authorization: `Bearer ${AS_TOKEN}` },
        responseType: "buffer",
        throwHttpErrors: false,
        retry: { limit: 0 },
    });
    return { status: answer.statusCode, body: Buffer.from(answer.body) };
}

/** The bodies of a room's messages, in the room's order, edits left out. */
export function bodies(homeserver: Homeserver, roomId: string): string[] {
    return messages(homeserver, roomId)
        .filter(({ content }) => !("m.new_content" in content))
        .map(({ content }) => String(content["body"]));
}

export function messages(homeserver: Homeserver, roomId: string): StoredEvent[] {
    return homeserver.events(roomId).filter(({ type }) => type === "m.room.message");
}

/** The newest edits' contents by the id of the event that they replace. */
export function edits(homeserver: Homeserver, roomId: string): Map<string, Record<string, unknown>> {
    const found = new Map<string, Record<string, unknown>>();
    for (const { content } of messages(homeserver, roomId)) {
        const relation = content["m.relates_to"] as { rel_type?: string; event_id?: string } | undefined;
        if (relation?.rel_type !== "m.replace" || relation.event_id === undefined) continue;
        found.set(relation.event_id, content["m.new_content"] as Record<string, unknown>);
    }
    return found;
}
