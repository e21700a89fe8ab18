/** The HTTP side: one fastify, with Matrix's way of reading bodies and of refusing what it does not know. */
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from "fastify";
import { sendError } from "./error-answer.ts";
import { addExchangeHooks } from "./exchange-hooks.ts";
import type { Faults } from "./faults.ts";
import { MatrixError } from "./matrix-error.ts";
import { accountRoutes } from "./routes/accounts.ts";
import { downloadRoutes } from "./routes/downloads.ts";
import { eventRoutes } from "./routes/events.ts";
import { historyRoutes } from "./routes/history.ts";
import { mediaRoutes } from "./routes/media.ts";
import { roomRoutes } from "./routes/rooms.ts";
import { stateRoutes } from "./routes/state.ts";
import { syncRoutes } from "./routes/sync.ts";
import type { Services } from "./services.ts";

/** Synapse's limit for a request that is no upload: 200 events of the largest size. */
const MAX_JSON_BYTES = 200 * 65_536;
const VERSIONS = Array.from({ length: 12 }, (_, minor) => `v1.${minor + 1}`);
const METHODS = ["GET", "POST", "PUT", "DELETE"] as const;

/** One endpoint, several versions: a client may use whichever it knows. */
const CLIENT_PREFIXES = ["/_matrix/client/v3", "/_matrix/client/r0", "/_matrix/client/v1"];
const CLIENT_ROUTES = [accountRoutes, roomRoutes, eventRoutes, stateRoutes, historyRoutes, syncRoutes];

const PREFLIGHT = {
    "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": "X-Requested-With, Content-Type, Authorization, Date",
};

export async function buildServer(
    services: Services,
    faults: Faults,
    logger: FastifyBaseLogger | undefined,
): Promise<FastifyInstance> {
    const app: FastifyInstance = Fastify({
        bodyLimit: MAX_JSON_BYTES,
        forceCloseConnections: true,
        routerOptions: { maxParamLength: 4096 },
        // A request's line in the log would show the access token of its query.
        logController: new LogController({ disableRequestLogging: true }),
        frameworkErrors: (error, _request, reply) => void sendError(error, reply),
        ...(logger === undefined ? {} : { loggerInstance: logger }),
    });
    const methodsByUrl = new Map<string, Set<string>>();
    app.addHook("onRoute", ({ url, method }) => {
        const methods = methodsByUrl.get(url) ?? new Set();
        for (const each of [method].flat()) methods.add(each);
        methodsByUrl.set(url, methods);
    });
    addExchangeHooks(app, services, faults);
    app.setErrorHandler((error, _request, reply) => sendError(error, reply));
    app.setNotFoundHandler(() => unrecognized(404));
    readJson(app);

    for (const prefix of CLIENT_PREFIXES) {
        await app.register(async (scope) => CLIENT_ROUTES.forEach((routes) => routes(scope, services)), { prefix });
    }
    await app.register(async (scope) => mediaRoutes(scope, services));
    downloadRoutes(app, services);
    app.get("/_matrix/client/versions", () => ({ versions: VERSIONS, unstable_features: {} }));

    // An endpoint that exists, asked with a method that it does not have (spec, common error codes).
    for (const [url, methods] of methodsByUrl) {
        const others = METHODS.filter((method) => !methods.has(method));
        if (others.length > 0) app.route({ method: others, url, handler: () => unrecognized(405) });
    }
    app.options("/*", (_request, reply) => reply.headers(PREFLIGHT).code(204).send());
    return app;
}

/** An empty body is undefined, and each endpoint's own business. */
function readJson(app: FastifyInstance): void {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("*", { parseAs: "string" }, (_request, body, done) => {
        try {
            done(null, body === "" ? undefined : JSON.parse(String(body)));
        } catch {
            done(new MatrixError(400, "M_NOT_JSON", "Content not JSON."));
        }
    });
}

function unrecognized(status: 404 | 405): never {
    throw new MatrixError(status, "M_UNRECOGNIZED", "Unrecognized request");
}
