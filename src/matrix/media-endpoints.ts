import { MediaError } from "../errors.ts";
import { type JsonObject, UPLOAD_REFUSALS } from "./answer.ts";
import type { Access } from "./client.ts";
import { type MxcUri, parseMxc } from "./mxc.ts";
import { type PresignedAddress, presignedAddress, unlessMissing } from "./presigned-endpoints.ts";
import { homeserverUrlFor, type MatrixRequest, matrixRequest } from "./request.ts";

/** The media endpoints of the homeserver, as the client sees them. */

/** An MXC URI without content, as `/create` handed it out. */
export interface CreatedMedia {
    readonly contentUri: string;
    /** When the homeserver takes it back, milliseconds since the epoch; undefined where it does not say. */
    readonly expiresAt?: number;
    /** Where the homeserver would rather have the content; a secret. */
    readonly presigned?: PresignedAddress;
}

/**
 * `POST /_matrix/media/v1/create` (spec v1.7, MSC2246). Throws NOT_SUPPORTED where the server has no such endpoint (with
 * the errcode M_UNRECOGNIZED where it says so itself), HOMESERVER_RATE_LIMITED where the user holds as many unused addresses as it may.
 *
 * @param check Throws HOMESERVER_ANSWER_INVALID for an address that is another's.
 */
export function createMedia(
    access: Access,
    { signal, check }: { readonly signal?: AbortSignal; readonly check?: (contentUri: string) => void } = {},
): Promise<CreatedMedia> {
    const path = "/_matrix/media/v1/create";
    const request: MatrixRequest = { method: "POST", path, body: {}, refusals: UPLOAD_REFUSALS, signal };
    return unlessMissing(access, signal, () =>
        matrixRequest(access, request, (body) => {
            const created = createdMedia(body);
            check?.(created.contentUri);
            return created;
        }),
    );
}

function createdMedia(body: JsonObject): CreatedMedia {
    const contentUri = body["content_uri"];
    parseMxc(contentUri);
    const expiresAt = body["unused_expires_at"];
    const known = typeof expiresAt === "number" && Number.isSafeInteger(expiresAt) && expiresAt > 0;
    const presigned = presignedAddress(body);
    return {
        contentUri: contentUri as string,
        ...(known && { expiresAt }),
        ...(presigned !== undefined && { presigned }),
    };
}

/**
 * The largest upload this user may make, in bytes (`m.upload.size`); undefined where the server names none. The
 * authenticated endpoint first (spec v1.11), the deprecated one where it is missing.
 */
export async function fetchUploadLimit(
    access: Access,
    options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
): Promise<number | undefined> {
    const ask = (path: string) => matrixRequest(access, { method: "GET", path, refusals: UPLOAD_REFUSALS, ...options });
    const body = await ask("/_matrix/client/v1/media/config").catch((error: unknown) => {
        if (error instanceof MediaError && error.status === 404) return ask("/_matrix/media/v3/config");
        throw error;
    });
    const size = body["m.upload.size"];
    return typeof size === "number" && Number.isSafeInteger(size) && size > 0 ? size : undefined;
}

/** Where `PUT` puts the content of a reserved address (spec v1.7). */
export function reservedUploadUrl(access: Access, { serverName, mediaId }: MxcUri, filename?: string): URL {
    const path = `/_matrix/media/v3/upload/${encodeURIComponent(serverName)}/${encodeURIComponent(mediaId)}`;
    return homeserverUrlFor(access, path, { filename });
}

/** Where `POST` uploads in one step, for servers without `/create`. */
export function oneStepUploadUrl(access: Access, filename?: string): URL {
    return homeserverUrlFor(access, "/_matrix/media/v3/upload", { filename });
}
