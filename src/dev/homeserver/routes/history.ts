/** Reading back: the timeline in pages, single events, what relates to an event. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { clientEvent, type StoredEvent } from "../event.ts";
import { textAt } from "../json.ts";
import { invalid, notFound } from "../matrix-error.ts";
import { param, queryInteger, queryText, requesterOf } from "../request.ts";
import type { Services } from "../services.ts";
import { parsePosition, positionToken } from "../stream-token.ts";

const MAX_PAGE = 1000;

export function historyRoutes(app: FastifyInstance, { rooms }: Services): void {
    app.get("/rooms/:roomId/messages", (request) => {
        const { userId } = requesterOf(request);
        const room = rooms.joinedBy(userId, param(request, "roomId"));
        const backwards = queryText(request, "dir") !== "f";
        const limit = pageSize(request, 10);
        const from = parsePosition(queryText(request, "from")) ?? (backwards ? rooms.position : 0);
        const index = room.countUpTo(from);

        const chunk = backwards
            ? room.events.slice(Math.max(0, index - limit), index).toReversed()
            : room.events.slice(index, index + limit);
        const last = chunk.at(-1);
        const start = positionToken(from);
        // As in Synapse it takes an empty page to know that there are no more: only that one has no `end`.
        if (last === undefined) return { chunk, start };
        const end = positionToken(backwards ? last.stream_ordering - 1 : last.stream_ordering);
        return { chunk: chunk.map((event) => clientEvent(event, userId)), start, end };
    });

    app.get("/rooms/:roomId/event/:eventId", (request) => {
        const { userId } = requesterOf(request);
        const event = rooms.joinedBy(userId, param(request, "roomId")).find(param(request, "eventId"));
        if (event === undefined) throw notFound("Event not found.");
        return clientEvent(event, userId);
    });

    const relations = (request: FastifyRequest): unknown => {
        const { userId } = requesterOf(request);
        const room = rooms.joinedBy(userId, param(request, "roomId"));
        const [relType, eventType] = [param(request, "relType"), param(request, "eventType")];
        const related = room
            .relatedTo(param(request, "eventId"))
            .filter(
                (event) =>
                    (relType === "" || relTypeOf(event) === relType) && (eventType === "" || event.type === eventType),
            );
        if (queryText(request, "dir") !== "f") related.reverse();
        return { chunk: related.slice(0, pageSize(request, MAX_PAGE)).map((event) => clientEvent(event, userId)) };
    };
    app.get("/rooms/:roomId/relations/:eventId", relations);
    app.get("/rooms/:roomId/relations/:eventId/:relType", relations);
    app.get("/rooms/:roomId/relations/:eventId/:relType/:eventType", relations);
}

function pageSize(request: FastifyRequest, fallback: number): number {
    const limit = queryInteger(request, "limit") ?? fallback;
    if (limit < 1) throw invalid("'limit' must be positive");
    return Math.min(limit, MAX_PAGE);
}

const relTypeOf = (event: StoredEvent): string | undefined => textAt(event.content["m.relates_to"], "rel_type");
