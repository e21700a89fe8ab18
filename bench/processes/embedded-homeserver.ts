import { startHomeserver } from "../../src/dev/homeserver/index.ts";
import { serve, usage } from "./serve.ts";

/** The homeserver of `npm start`: rooms, transactions, limits and a journal, as a small real one has them. */
const ACCESS_TOKEN = "as-token-of-the-benchmarks";
const SERVER_NAME = "bench.example";

const handlers = {
    start: async (dataDir: string) => {
        const homeserver = await startHomeserver({
            serverName: SERVER_NAME,
            dataDir,
            appservices: [
                {
                    id: "bench",
                    asToken: ACCESS_TOKEN,
                    senderLocalpart: "bot",
                    userNamespaces: ["@ghost_.*:bench\\.example"],
                    rateLimited: false,
                },
            ],
        });
        return { homeserverUrl: homeserver.url, accessToken: ACCESS_TOKEN, ghost: `@ghost_alice:${SERVER_NAME}` };
    },
    usage,
};
export type EmbeddedHandlers = typeof handlers;
serve(handlers);
