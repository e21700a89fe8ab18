/** `POST /createRoom`: the events a new room begins with, in the order the spec gives them. */
import { z } from "zod";
import type { JsonObject } from "./json.ts";
import { MatrixError } from "./matrix-error.ts";
import type { Membership } from "./membership.ts";
import { randomId } from "./random-id.ts";
import type { Rooms } from "./rooms.ts";

/** Redaction and content rules of the events are this version's. */
const ROOM_VERSION = "11";

const JsonContent = z.record(z.string(), z.unknown());

/** What of the request is heeded; whatever else it says is passed over. */
const CreateRoomRequest = z.object({
    preset: z.enum(["private_chat", "public_chat", "trusted_private_chat"]).optional(),
    visibility: z.enum(["public", "private"]).optional(),
    name: z.string().optional(),
    topic: z.string().optional(),
    room_alias_name: z.string().optional(),
    invite: z.array(z.string()).default([]),
    is_direct: z.boolean().default(false),
    initial_state: z
        .array(z.object({ type: z.string(), state_key: z.string().default(""), content: JsonContent }))
        .default([]),
    power_level_content_override: JsonContent.default({}),
    creation_content: JsonContent.default({}),
});

export async function createRoom(
    rooms: Rooms,
    membership: Membership,
    serverName: string,
    creator: string,
    body: JsonObject,
): Promise<string> {
    const { data: request, error } = CreateRoomRequest.safeParse(body);
    if (request === undefined) throw new MatrixError(400, "M_BAD_JSON", z.prettifyError(error));
    const { invite, room_alias_name: aliasName } = request;
    const preset = request.preset ?? (request.visibility === "public" ? "public_chat" : "private_chat");
    const trusted = preset === "trusted_private_chat" ? invite : [];
    const roomId = `!${randomId(18)}:${serverName}`;
    const put = (type: string, content: JsonObject, key = ""): Promise<unknown> =>
        rooms.append({ room_id: roomId, type, sender: creator, state_key: key, content });

    const alias = aliasName === undefined ? undefined : `#${aliasName}:${serverName}`;
    if (alias !== undefined) await rooms.addAlias(alias, roomId);

    await put("m.room.create", { ...request.creation_content, room_version: ROOM_VERSION });
    await membership.write(roomId, creator, creator, { membership: "join" });
    await put("m.room.power_levels", {
        ...powerLevels([creator, ...trusted], preset === "public_chat" ? 50 : 0),
        ...request.power_level_content_override,
    });
    if (alias !== undefined) await put("m.room.canonical_alias", { alias });
    await put("m.room.join_rules", { join_rule: preset === "public_chat" ? "public" : "invite" });
    await put("m.room.history_visibility", { history_visibility: "shared" });
    for (const { type, state_key: key, content } of request.initial_state) await put(type, content, key);
    if (request.name !== undefined) await put("m.room.name", { name: request.name });
    if (request.topic !== undefined) await put("m.room.topic", { topic: request.topic });
    const direct = request.is_direct ? { is_direct: true } : {};
    for (const userId of invite) await membership.invite(creator, roomId, userId, direct);
    return roomId;
}

function powerLevels(admins: readonly string[], invite: number): JsonObject {
    return {
        users: Object.fromEntries(admins.map((userId) => [userId, 100])),
        users_default: 0,
        events: { "m.room.power_levels": 100, "m.room.history_visibility": 100, "m.room.encryption": 100 },
        events_default: 0,
        state_default: 50,
        ban: 50,
        kick: 50,
        redact: 50,
        invite,
    };
}
