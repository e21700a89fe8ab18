/** Reserving and filling media IDs, the one-step upload, and the size limit. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { MatrixError, notFound } from "../matrix-error.ts";
import type { Upload } from "../media-store.ts";
import { presignedFields } from "../presigned-media.ts";
import { exchangeOf, param, queryText, requesterOf } from "../request.ts";
import type { Services } from "../services.ts";
import { completeRoutes } from "./complete-media.ts";

export function mediaRoutes(app: FastifyInstance, services: Services): void {
    const { settings, media } = services;
    // Here a body is a stream: it goes to the disk as it comes, and a refusal does not wait for it.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("*", (_request, _payload, done) => done(null));

    const create = async (request: FastifyRequest): Promise<unknown> => {
        const { userId, appservice } = requesterOf(request);
        const { id, expiresAt } = await media.create(userId, appservice?.rateLimited ?? true);
        const presigned = await presignedFields(settings.presigned, id, userId);
        return { content_uri: `mxc://${settings.serverName}/${id}`, unused_expires_at: expiresAt, ...presigned };
    };
    if (settings.create) {
        app.post("/_matrix/media/v1/create", create);
        app.post("/_matrix/media/unstable/fi.mau.msc2246/create", create);

        completeRoutes(app, services);

        app.put("/_matrix/media/v3/upload/:serverName/:mediaId", async (request) => {
            const { userId } = requesterOf(request);
            if (param(request, "serverName") !== settings.serverName) throw notFound("Non-local server name specified");
            const mediaId = param(request, "mediaId");
            media.checkMayFill(mediaId, userId);
            await received(request, media.fill(mediaId, userId, uploadOf(request, settings.maxUploadBytes)));
            return {};
        });
    }

    app.post("/_matrix/media/v3/upload", async (request) => {
        const { userId } = requesterOf(request);
        const id = await received(request, media.add(userId, uploadOf(request, settings.maxUploadBytes)));
        return { content_uri: `mxc://${settings.serverName}/${id}` };
    });

    const config = (request: FastifyRequest, reply: FastifyReply): void => {
        requesterOf(request);
        void reply.send({ "m.upload.size": settings.maxUploadBytes });
    };
    app.get("/_matrix/client/v1/media/config", config);
    app.get("/_matrix/media/v3/config", config);
}

function uploadOf(request: FastifyRequest, maxBytes: number): Upload {
    const declared = request.headers["content-length"];
    if (declared === undefined) throw new MatrixError(400, "M_UNKNOWN", "Request must specify a Content-Length");
    const size = Number(declared);
    if (size > maxBytes) throw new MatrixError(413, "M_TOO_LARGE", "Upload request body is too large");
    const filename = queryText(request, "filename");
    return {
        body: request.raw,
        size,
        contentType: exchangeOf(request).contentType ?? "application/octet-stream",
        filename: filename === "" ? undefined : filename,
    };
}

/** A client that went away before its last byte is no fault of the server's; nobody reads the answer. */
async function received<T>(request: FastifyRequest, receiving: Promise<T>): Promise<T> {
    try {
        return await receiving;
    } catch (error) {
        if (request.raw.complete) throw error;
        throw new MatrixError(499, "M_UNKNOWN", "The client closed the connection");
    }
}
