import { EVENT_REFUSALS } from "./answer.ts";
import type { Access } from "./client.ts";
import { matrixRequest } from "./request.ts";

/** The profile endpoints of the homeserver, as the client sees them. */

/** `PUT /_matrix/client/v3/profile/{userId}/avatar_url`: makes it the acting user's picture, in all its rooms. */
export async function setAvatarUrl(access: Access, avatarUrl: string, signal?: AbortSignal): Promise<void> {
    await matrixRequest(access, {
        method: "PUT",
        path: `/_matrix/client/v3/profile/${encodeURIComponent(access.userId)}/avatar_url`,
        body: { avatar_url: avatarUrl },
        refusals: EVENT_REFUSALS,
        signal,
    });
}
