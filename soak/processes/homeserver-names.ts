/** What the other processes have to know of the homeserver, without running it. */
export type { HomeserverHandlers } from "./homeserver.ts";

export const SERVER_NAME = "soak.example";
export const ACCESS_TOKEN = "as-token-of-the-soak";
export const BOT = `@bot:${SERVER_NAME}`;

/** What befalls a share of its requests. */
export const HOMESERVER_TROUBLES = ["unavailable", "rate-limited", "lost-request", "lost-answer", "slow"] as const;
export type HomeserverTrouble = (typeof HOMESERVER_TROUBLES)[number];
