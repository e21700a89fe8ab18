/** Sending: messages and redactions. */
import type { FastifyInstance } from "fastify";
import { notFound } from "../matrix-error.ts";
import { checkMay, checkMaySend } from "../power-levels.ts";
import { eventContent, exchangeOf, massagedTimestamp, jsonBody, param, requesterOf } from "../request.ts";
import type { Services } from "../services.ts";

export function eventRoutes(app: FastifyInstance, { rooms, transactions }: Services): void {
    app.put("/rooms/:roomId/send/:eventType/:txnId", (request) => {
        const requester = requesterOf(request);
        return transactions.once(exchangeOf(request).path, requester, async () => {
            const { userId } = requester;
            const content = eventContent(request);
            const room = rooms.joinedBy(userId, param(request, "roomId"));
            const type = param(request, "eventType");
            checkMaySend(room, userId, type, false);
            const event = await rooms.append({
                room_id: room.id,
                type,
                sender: userId,
                content,
                transaction_id: param(request, "txnId"),
                origin_server_ts: massagedTimestamp(request),
            });
            return { event_id: event.event_id };
        });
    });

    app.put("/rooms/:roomId/redact/:eventId/:txnId", (request) => {
        const requester = requesterOf(request);
        return transactions.once(exchangeOf(request).path, requester, async () => {
            const { userId } = requester;
            const room = rooms.joinedBy(userId, param(request, "roomId"));
            const target = room.find(param(request, "eventId"));
            if (target === undefined) throw notFound("Event not found");
            if (target.sender !== userId) checkMay(room, userId, "redact");
            const event = await rooms.append({
                room_id: room.id,
                type: "m.room.redaction",
                sender: userId,
                // Room version 11 has the target in the content; older clients look beside it.
                content: { ...jsonBody(request), redacts: target.event_id },
                redacts: target.event_id,
                transaction_id: param(request, "txnId"),
                origin_server_ts: massagedTimestamp(request),
            });
            return { event_id: event.event_id };
        });
    });
}
