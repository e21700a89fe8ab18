/** Rooms: making them, coming in, leaving, who is there. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { createRoom } from "../create-room.ts";
import { clientEvent } from "../event.ts";
import { optionalJsonBody, param, requesterOf, textField } from "../request.ts";
import type { Services } from "../services.ts";

export function roomRoutes(app: FastifyInstance, { rooms, membership, accounts, settings }: Services): void {
    app.post("/createRoom", async (request) => {
        const { userId } = requesterOf(request);
        const body = optionalJsonBody(request);
        return { room_id: await createRoom(rooms, membership, settings.serverName, userId, body) };
    });

    const join = async (request: FastifyRequest): Promise<unknown> => {
        const { userId } = requesterOf(request);
        const target = param(request, "roomIdOrAlias");
        const roomId = target.startsWith("#") ? rooms.resolveAlias(target) : target;
        await membership.join(userId, roomId);
        return { room_id: roomId };
    };
    app.post("/join/:roomIdOrAlias", join);
    app.post("/rooms/:roomIdOrAlias/join", join);

    app.post("/rooms/:roomId/invite", async (request) => {
        const { userId } = requesterOf(request);
        await membership.invite(userId, param(request, "roomId"), textField(optionalJsonBody(request), "user_id"));
        return {};
    });

    app.post("/rooms/:roomId/kick", async (request) => {
        const { userId } = requesterOf(request);
        const body = optionalJsonBody(request);
        await membership.kick(userId, param(request, "roomId"), textField(body, "user_id"), body["reason"]);
        return {};
    });

    app.post("/rooms/:roomId/leave", async (request) => {
        await membership.leave(requesterOf(request).userId, param(request, "roomId"));
        return {};
    });

    app.get("/joined_rooms", (request) => ({ joined_rooms: rooms.joinedRooms(requesterOf(request).userId) }));

    app.get("/rooms/:roomId/joined_members", (request) => {
        const room = rooms.joinedBy(requesterOf(request).userId, param(request, "roomId"));
        const profiles = [...room.joined].map((userId) => {
            const { displayname, avatar_url: avatarUrl } = accounts.profileIfKnown(userId);
            return [userId, { display_name: displayname ?? null, avatar_url: avatarUrl ?? null }];
        });
        return { joined: Object.fromEntries(profiles) as unknown };
    });

    app.get("/rooms/:roomId/members", (request) => {
        const { userId } = requesterOf(request);
        const room = rooms.joinedBy(userId, param(request, "roomId"));
        const members = room.allState.filter(({ type }) => type === "m.room.member");
        return { chunk: members.map((event) => clientEvent(event, userId)) };
    });

    app.get("/directory/room/:roomAlias", (request) => {
        return { room_id: rooms.resolveAlias(param(request, "roomAlias")), servers: [settings.serverName] };
    });
}
