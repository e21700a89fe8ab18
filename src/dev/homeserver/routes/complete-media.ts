/** The end of a presigned upload: the storage's object becomes the content of its media ID. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { notFound } from "../matrix-error.ts";
import { COMPLETE_PATHS } from "../presigned-media.ts";
import { param, queryText, requesterOf } from "../request.ts";
import type { Services } from "../services.ts";

export function completeRoutes(app: FastifyInstance, { settings, media }: Services): void {
    const { presigned } = settings;
    if (presigned === undefined) return;
    const complete = async (request: FastifyRequest): Promise<unknown> => {
        const { userId } = requesterOf(request);
        if (param(request, "serverName") !== settings.serverName) throw notFound("Non-local server name specified");
        const mediaId = param(request, "mediaId");
        media.checkMayFill(mediaId, userId);
        const object = await presigned.read(mediaId);
        if (object === undefined) throw notFound("The storage has no such object");
        // Asked again: reading took its time.
        media.checkMayFill(mediaId, userId);
        const filename = queryText(request, "filename");
        await media.fill(mediaId, userId, { ...object, filename: filename === "" ? undefined : filename });
        return {};
    };
    for (const name of presigned.completePaths ?? (["stable", "unstable"] as const)) {
        app.post(COMPLETE_PATHS[name], complete);
    }
}
