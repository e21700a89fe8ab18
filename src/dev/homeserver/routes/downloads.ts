/** Downloads, with and without authentication, that wait for content which is still on its way. */
import { open } from "node:fs/promises";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { invalid, MatrixError, notFound } from "../matrix-error.ts";
import type { MediaStore, StoredMedia } from "../media-store.ts";
import { param, queryInteger, requesterOf } from "../request.ts";
import type { Services } from "../services.ts";

const DEFAULT_WAIT_MS = 20_000;
const MAX_WAIT_MS = 60_000;
/** Types that a browser may show; everything else is to be saved (spec, "Serving inline content"). */
const INLINE =
    /^(image\/(jpeg|gif|a?png|webp|avif)|(video|audio)\/[\w.+-]+|text\/(plain|css|csv)|application\/(ld\+)?json)$/u;
const SANDBOX =
    "sandbox; default-src 'none'; script-src 'none'; style-src 'unsafe-inline'; media-src 'self'; object-src 'self';";

export function downloadRoutes(app: FastifyInstance, { settings, media }: Services): void {
    const download = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
        if (param(request, "serverName") !== settings.serverName) throw notFound("Media is not of this server");
        const mediaId = param(request, "mediaId");
        const content = await contentOf(media, mediaId, queryInteger(request, "timeout_ms") ?? DEFAULT_WAIT_MS, reply);
        if (!settings.legacyDownload && isLegacy(request)) throw notFound("Not found");

        // Opened before the answer begins: what cannot be read is an error, not a cut body.
        const file = await open(media.path(mediaId));
        return reply
            .header("content-type", content.contentType)
            .header("content-length", content.size)
            .header("content-disposition", disposition(content, param(request, "fileName")))
            .header("content-security-policy", SANDBOX)
            .header("cross-origin-resource-policy", "cross-origin")
            .send(file.createReadStream());
    };

    for (const path of ["/:serverName/:mediaId", "/:serverName/:mediaId/:fileName"]) {
        app.get(`/_matrix/client/v1/media/download${path}`, (request, reply) => {
            requesterOf(request);
            return download(request, reply);
        });
        for (const version of ["v3", "r0", "v1"]) app.get(`/_matrix/media/${version}/download${path}`, download);
    }
}

const isLegacy = (request: FastifyRequest): boolean => request.routeOptions.url?.startsWith("/_matrix/media/") === true;

/** The content of an ID, waited for as long as the client allows and the ID lives. */
async function contentOf(
    media: MediaStore,
    mediaId: string,
    timeoutMs: number,
    reply: FastifyReply,
): Promise<StoredMedia> {
    if (timeoutMs < 0) throw invalid("'timeout_ms' must not be negative");
    const until = media.now() + Math.min(timeoutMs, MAX_WAIT_MS);
    for (;;) {
        const content = media.content(mediaId);
        if (content !== undefined) return content;
        // An ID that expired unused is as good as one that never was: 404, not 504.
        const expiry = media.expiry(mediaId);
        if (expiry === undefined) throw notFound("Not found");
        const left = Math.min(until, expiry + 1) - media.now();
        if (media.now() >= until || media.held.closed || reply.raw.destroyed) {
            throw new MatrixError(504, "M_NOT_YET_UPLOADED", "Media has not been uploaded yet");
        }
        await media.held.hold((id) => id === mediaId, left, reply.raw);
    }
}

/** RFC 6266: a plain name as a token, any other percent-encoded UTF-8. */
function disposition({ contentType, filename }: StoredMedia, requestedName: string): string {
    const [type = ""] = contentType.toLowerCase().split(";", 1);
    const kind = INLINE.test(type.trim()) ? "inline" : "attachment";
    const name = requestedName === "" ? filename : requestedName;
    if (name === undefined) return kind;
    return /^[\w!#$%&'*+.^`|~-]+$/u.test(name)
        ? `${kind}; filename=${name}`
        : `${kind}; filename*=utf-8''${encodeURIComponent(name)}`;
}
