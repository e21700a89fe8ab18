import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Homeserver, type HomeserverOptions, startHomeserver } from "../../src/dev/homeserver/index.ts";
import type { BridgeLike, IntentLike } from "../../src/index.ts";
import { BridgeMedia, type BridgeMediaOptions } from "../../src/index.ts";
import { EVENT_REFUSALS } from "../../src/matrix/answer.ts";
import { matrixRequest } from "../../src/matrix/request.ts";

/** A homeserver, a bridge and the component, on real sockets and real files. */

export const AS_TOKEN = "as-token-of-the-tests";

export interface World {
    readonly homeserver: Homeserver;
    readonly bridge: BridgeLike;
    readonly dataDir: string;
    readonly bot: string;
    ghost(name: string): string;
    /** A room that the ghosts may join and have joined. */
    room(...members: string[]): Promise<string>;
    /** A component on this world's data directory, not started. */
    component(options?: Partial<BridgeMediaOptions>): BridgeMedia;
    /** A JSON request as a user of the appservice. */
    request(
        userId: string,
        method: "GET" | "POST" | "PUT",
        path: string,
        body?: object,
    ): Promise<Record<string, unknown>>;
    close(): Promise<void>;
}

export async function openWorld(options: Partial<HomeserverOptions> & { rateLimited?: boolean } = {}): Promise<World> {
    const { rateLimited = false, ...homeserverOptions } = options;
    const homeserver = await startHomeserver({
        serverName: "example.org",
        maxUploadBytes: 64 * 2 ** 20,
        appservices: [
            {
                id: "test",
                asToken: AS_TOKEN,
                senderLocalpart: "bot",
                userNamespaces: ["@ghost_.*:example\\.org"],
                rateLimited,
            },
        ],
        logger: false,
        ...homeserverOptions,
    });
    const dataDir = await mkdtemp(join(tmpdir(), "bridge-media-"));
    const open: BridgeMedia[] = [];
    const bot = "@bot:example.org";
    const access = (userId: string) => ({ homeserverUrl: homeserver.url, accessToken: AS_TOKEN, userId });
    const request: World["request"] = async (userId, method, path, body) =>
        matrixRequest(
            access(userId),
            {
                method,
                path: `/_matrix/client/v3${path}`,
                ...(body !== undefined && { body: body as Record<string, unknown> }),
                refusals: EVENT_REFUSALS,
            },
            (answered) => answered,
        );
    const bridge = plainBridge(homeserver.url, bot);
    return {
        homeserver,
        bridge,
        dataDir,
        bot,
        ghost: (name) => `@ghost_${name}:example.org`,
        async room(...members) {
            const created = await request(bot, "POST", "/createRoom", { preset: "public_chat" });
            const roomId = String(created["room_id"]);
            for (const member of members) {
                const intent = intentOf(bridge, member);
                await intent.ensureRegistered();
                await intent.join?.(roomId);
            }
            return roomId;
        },
        component(given = {}) {
            const media = new BridgeMedia(bridge, { dataDir, allowPrivateAddresses: true, ...given });
            open.push(media);
            return media;
        },
        request,
        async close() {
            for (const media of open) await media.close();
            await homeserver.close();
            await rm(dataDir, { recursive: true, force: true });
        },
    };
}

export function intentOf(bridge: BridgeLike, userId: string): IntentLike {
    return "getIntentForUserId" in bridge ? bridge.getIntentForUserId(userId) : bridge.getIntent(userId);
}

/** The least that the component asks of a bridge, over plain requests. */
export function plainBridge(homeserverUrl: string, bot: string, accessToken = AS_TOKEN): BridgeLike {
    return {
        getIntent(userId = bot): IntentLike {
            const access = { homeserverUrl, accessToken, userId };
            const post = (path: string, body: Record<string, unknown>) =>
                matrixRequest(access, {
                    method: "POST",
                    path: `/_matrix/client/v3${path}`,
                    body,
                    refusals: EVENT_REFUSALS,
                });
            return {
                userId,
                matrixClient: { homeserverUrl, accessToken },
                async ensureRegistered() {
                    const [localpart] = userId.slice(1).split(":");
                    await matrixRequest(
                        { homeserverUrl, accessToken, userId: bot },
                        {
                            method: "POST",
                            path: "/_matrix/client/v3/register",
                            body: { type: "m.login.application_service", username: localpart },
                            refusals: EVENT_REFUSALS,
                        },
                    ).catch((error: { errcode?: string }) => {
                        if (error.errcode !== "M_USER_IN_USE") throw error;
                    });
                },
                async join(roomId) {
                    await post(`/join/${encodeURIComponent(roomId)}`, {});
                },
            };
        },
    };
}
