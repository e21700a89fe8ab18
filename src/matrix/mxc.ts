import { MediaError } from "../errors.ts";

/** The parts of an MXC URI. Spec: Client-Server API, "Matrix Content (mxc://) URIs". */
export interface MxcUri {
    readonly serverName: string;
    readonly mediaId: string;
}

const SERVER_NAME = /^(?:[0-9A-Za-z.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/;
const MEDIA_ID = /^[0-9A-Za-z_-]{1,255}$/;

/** Reads an MXC URI strictly: what a homeserver says ends up in paths and events. Throws HOMESERVER_ANSWER_INVALID. */
export function parseMxc(uri: unknown): MxcUri {
    const parts = partsOf(uri);
    if (parts === undefined) throw new MediaError("HOMESERVER_ANSWER_INVALID", { detail: "not an MXC URI" });
    return parts;
}

export function isMxc(uri: unknown): uri is string {
    return partsOf(uri) !== undefined;
}

function partsOf(uri: unknown): MxcUri | undefined {
    const parts = typeof uri === "string" ? /^mxc:\/\/([^/]+)\/([^/]+)$/.exec(uri) : null;
    const [, serverName = "", mediaId = ""] = parts ?? [];
    return SERVER_NAME.test(serverName) && MEDIA_ID.test(mediaId) ? { serverName, mediaId } : undefined;
}
