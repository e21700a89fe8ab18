import { got, HTTPError } from "got";

export interface HomeserverAccess {
    readonly homeserverUrl: string;
    readonly accessToken: string;
    /** A user of the appservice. */
    readonly ghost: string;
}

/** A room with one ghost in it, made through the client API; works with any homeserver that knows the appservice. */
export async function roomWithGhost(access: HomeserverAccess): Promise<{ roomId: string; sender: string }> {
    const { homeserverUrl, accessToken, ghost: sender } = access;
    const post = async (path: string, json: object, userId?: string) =>
        got.post(`${homeserverUrl}/_matrix/client/v3${path}`, {
            json,
            headers: { authorization: `Bearer ${accessToken}` },
            ...(userId !== undefined && { searchParams: { user_id: userId } }),
        });
    const registration = { type: "m.login.application_service", username: sender.slice(1).split(":")[0] };
    await post("/register", registration).catch((error: unknown) => {
        // It has another room already.
        if (!(error instanceof HTTPError && String(error.response.body).includes("M_USER_IN_USE"))) throw error;
    });
    const created = await post("/createRoom", { preset: "public_chat" }, sender);
    const { room_id: roomId } = JSON.parse(created.body) as { room_id: string };
    return { roomId, sender };
}

/** Rooms of a homeserver that takes everything. */
export function anyRooms(count: number): string[] {
    return Array.from({ length: count }, (_, index) => `!room${index}:x`);
}
