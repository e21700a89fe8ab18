import type { Readable } from "node:stream";

/** Uploads past the homeserver (MSC3870): a storage whose objects become the content of reserved media IDs. */
export interface PresignedMedia {
    /** Where the content of a media ID is to be put; undefined where the server takes it itself. */
    readonly uploadUrl: (mediaId: string, userId: string) => Promise<string> | string | undefined;
    /** The object that was put there; undefined when there is none. */
    readonly read: (mediaId: string) => Promise<StoredObject | undefined>;
    /** How `/create` names the address. @default "unstable" */
    readonly fields?: "stable" | "unstable";
    /** `upload_method`; left out where undefined, which means PUT. */
    readonly method?: "PUT" | "POST";
    /** The paths of `/complete` that there are. @default both */
    readonly completePaths?: readonly ("stable" | "unstable")[];
}

export interface StoredObject {
    readonly body: Readable;
    readonly size: number;
    readonly contentType: string;
}

const PREFIX = { stable: "", unstable: "com.beeper.msc3870." } as const;
export const COMPLETE_PATHS = {
    stable: "/_matrix/media/v1/upload/:serverName/:mediaId/complete",
    unstable: "/_matrix/media/unstable/com.beeper.msc3870/upload/:serverName/:mediaId/complete",
} as const;

/** What `/create` says of it. */
export async function presignedFields(
    presigned: PresignedMedia | undefined,
    mediaId: string,
    userId: string,
): Promise<object> {
    if (presigned === undefined) return {};
    const prefix = PREFIX[presigned.fields ?? "unstable"];
    const uploadUrl = await presigned.uploadUrl(mediaId, userId);
    if (uploadUrl === undefined) return {};
    return {
        [`${prefix}upload_url`]: uploadUrl,
        ...(presigned.method !== undefined && { [`${prefix}upload_method`]: presigned.method }),
    };
}
