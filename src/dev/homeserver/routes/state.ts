/** Room state: reading it, changing it. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { clientEvent } from "../event.ts";
import type { JsonObject } from "../json.ts";
import { forbidden, invalid, notFound } from "../matrix-error.ts";
import type { Membership } from "../membership.ts";
import { checkMaySend } from "../power-levels.ts";
import { eventContent, massagedTimestamp, param, requesterOf } from "../request.ts";
import type { Services } from "../services.ts";

/** An empty state key may be left out, and the slash before it too. */
const PATHS = ["", "/", "/:stateKey"].map((end) => `/rooms/:roomId/state/:eventType${end}`);

export function stateRoutes(app: FastifyInstance, { rooms, membership }: Services): void {
    const put = async (request: FastifyRequest): Promise<unknown> => {
        const { userId } = requesterOf(request);
        const content = eventContent(request);
        const room = rooms.joinedBy(userId, param(request, "roomId"));
        const [type, key] = [param(request, "eventType"), param(request, "stateKey")];
        if (type === "m.room.member") {
            await changeMembership(membership, userId, room.id, key, content);
            return { event_id: room.state(type, key)?.event_id };
        }
        checkMaySend(room, userId, type, true);
        const event = await rooms.append({
            room_id: room.id,
            type,
            sender: userId,
            content,
            state_key: key,
            origin_server_ts: massagedTimestamp(request),
        });
        return { event_id: event.event_id };
    };

    const get = (request: FastifyRequest, reply: FastifyReply): void => {
        const room = rooms.joinedBy(requesterOf(request).userId, param(request, "roomId"));
        const event = room.state(param(request, "eventType"), param(request, "stateKey"));
        if (event === undefined) throw notFound("Event not found.");
        void reply.send(event.content);
    };

    for (const path of PATHS) {
        app.put(path, put);
        app.get(path, get);
    }

    app.get("/rooms/:roomId/state", (request, reply) => {
        const { userId } = requesterOf(request);
        const room = rooms.joinedBy(userId, param(request, "roomId"));
        void reply.send(room.allState.map((event) => clientEvent(event, userId)));
    });
}

/** A membership sent as state goes by the rules of the endpoint that is made for it. */
async function changeMembership(
    membership: Membership,
    userId: string,
    roomId: string,
    target: string,
    content: JsonObject,
): Promise<void> {
    switch (content["membership"]) {
        case "invite":
            return membership.invite(userId, roomId, target);
        case "leave":
            if (target === userId) return membership.leave(userId, roomId);
            return membership.kick(userId, roomId, target, content["reason"]);
        case "join":
            if (target !== userId) throw forbidden("Cannot force another user to join.");
            // Already joined: a name or picture for this room only.
            return membership.write(roomId, userId, userId, content);
        default:
            throw invalid("Unsupported membership");
    }
}
