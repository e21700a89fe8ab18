import { Readable } from "node:stream";
import { serve } from "../../bench/processes/serve.ts";
import { type Homeserver, type Intercept, startHomeserver } from "../../src/dev/homeserver/index.ts";
import { matrixRequest } from "../../src/matrix/request.ts";
import { randomOf } from "../plan.ts";
import { ACCESS_TOKEN, BOT, type HomeserverTrouble, SERVER_NAME } from "./homeserver-names.ts";

/** The embedded homeserver, which can be killed and started again at the same address, and does badly when it is told to. */
const random = randomOf(Number(process.env["SOAK_SEED"]) + 2);
let homeserver: Homeserver;
let trouble: { readonly kind: HomeserverTrouble; readonly share: number } | undefined;
let created = 0;

interface Start {
    readonly dataDir: string;
    readonly port: number;
    readonly storageUrl: string;
}

function interceptFor(kind: HomeserverTrouble): Intercept {
    switch (kind) {
        case "unavailable":
            return { status: 503, body: { errcode: "M_UNKNOWN", error: "down" } };
        case "rate-limited":
            return { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", error: "slow", retry_after_ms: 500 } };
        case "lost-request":
            return { drop: "before" };
        case "lost-answer":
            return { drop: "after" };
        case "slow":
            return { delayMs: 700 };
    }
}

const handlers = {
    start: async ({ dataDir, port, storageUrl }: Start) => {
        homeserver = await startHomeserver({
            serverName: SERVER_NAME,
            dataDir,
            port,
            appservices: [
                {
                    id: "soak",
                    asToken: ACCESS_TOKEN,
                    senderLocalpart: "bot",
                    userNamespaces: ["@ghost_.*:soak\\.example"],
                    rateLimited: false,
                },
            ],
            presigned: {
                // Every other file goes past the homeserver.
                uploadUrl: (mediaId) => (created++ % 2 === 0 ? `${storageUrl}/${mediaId}?signature=soak` : undefined),
                read: async (mediaId) => {
                    const answer = await fetch(`${storageUrl}/${mediaId}`);
                    if (!answer.ok) return undefined;
                    const body = Buffer.from(await answer.arrayBuffer());
                    const contentType = answer.headers.get("content-type") ?? "application/octet-stream";
                    return { body: Readable.from([body]), size: body.length, contentType };
                },
            },
        });
        homeserver.intercept(() =>
            trouble !== undefined && random() < trouble.share ? interceptFor(trouble.kind) : undefined,
        );
        return homeserver.url;
    },
    setUp: async ({ ghosts, rooms }: { readonly ghosts: readonly string[]; readonly rooms: number }) => {
        const post = (userId: string, path: string, body: Record<string, unknown>) =>
            matrixRequest(
                { homeserverUrl: homeserver.url, accessToken: ACCESS_TOKEN, userId },
                {
                    method: "POST",
                    path: `/_matrix/client/v3${path}`,
                    body,
                    refusals: { tooLarge: "EVENT_TOO_LARGE", refused: "EVENT_REFUSED" },
                },
            );
        for (const ghost of ghosts) {
            const username = ghost.slice(1, ghost.indexOf(":"));
            await post(BOT, "/register", { type: "m.login.application_service", username });
        }
        const made: string[] = [];
        for (let count = 0; count < rooms; count++) {
            const { room_id: roomId } = await post(BOT, "/createRoom", { preset: "public_chat" });
            for (const ghost of ghosts) await post(ghost, `/join/${encodeURIComponent(String(roomId))}`, {});
            made.push(String(roomId));
        }
        return made;
    },
    trouble: async (given: typeof trouble) => {
        trouble = given ?? undefined;
    },
    events: async (roomId: string) =>
        homeserver
            .events(roomId)
            .filter(({ type }) => /^m\.(?:room\.(?:message|encrypted|redaction)|sticker)$/.test(type))
            .map(({ event_id, type, content }) => ({ event_id, type, content })),
};
export type HomeserverHandlers = typeof handlers;
serve(handlers);
