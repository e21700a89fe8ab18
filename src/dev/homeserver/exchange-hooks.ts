/**
 * What every request goes through, in this order: authentication (its result only noted, the endpoint decides whether it
 * matters), injected faults, the endpoint, the log.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Accounts } from "./accounts.ts";
import type { Faults, Intercept } from "./faults.ts";
import { MatrixError } from "./matrix-error.ts";
import { accessTokenOf, EXCHANGE, type Exchange, exchangeOf, queryText } from "./request.ts";
import type { Services } from "./services.ts";

/** How long the rest of a refused upload is read and thrown away, so that the client gets to read the refusal. */
const LINGER_MS = 5_000;

export function addExchangeHooks(app: FastifyInstance, { accounts }: Services, faults: Faults): void {
    app.decorateRequest(EXCHANGE);
    app.addHook("onRequest", async (request, reply) => {
        const exchange = begin(accounts, request);
        request.setDecorator<Exchange>(EXCHANGE, exchange);
        // Synapse takes JSON for JSON and media for bytes, whatever their Content-Type says.
        delete request.raw.headers["content-type"];
        const intercept = faults.decide({ method: request.method, path: exchange.path, user: userOf(exchange) });
        if (intercept !== undefined) await interfere(intercept, request, reply, faults);
    });
    app.addHook("onSend", (request, reply, payload, done) => {
        note(faults, request, reply.statusCode);
        if (exchangeOf(request).dropAnswer) request.raw.socket.destroy();
        reply.header("access-control-allow-origin", "*");
        done(null, payload);
    });
    app.addHook("onResponse", (request, _reply, done) => {
        if (!request.raw.complete) setTimeout(() => request.raw.complete || request.raw.destroy(), LINGER_MS).unref();
        done();
    });
}

function begin(accounts: Accounts, request: FastifyRequest): Exchange {
    const [path = ""] = (request.raw.url ?? "").split("?", 1);
    return {
        at: Date.now(),
        path,
        contentType: request.headers["content-type"],
        requester: accounts.authenticate(accessTokenOf(request), queryText(request, "user_id")),
        dropAnswer: false,
    };
}

const userOf = ({ requester }: Exchange): string | undefined =>
    requester instanceof MatrixError ? undefined : requester.userId;

function note(faults: Faults, request: FastifyRequest, status: number): void {
    const exchange = exchangeOf(request);
    faults.note({ method: request.method, path: exchange.path, user: userOf(exchange), at: exchange.at, status });
}

/** Does what an intercept says. A request that is answered or cut here goes no further. */
async function interfere(
    intercept: Intercept,
    request: FastifyRequest,
    reply: FastifyReply,
    faults: Faults,
): Promise<void> {
    // Unreferenced, so that a long delay does not keep alive the process of a closed server.
    if (intercept.delayMs !== undefined) await sleep(intercept.delayMs, undefined, { ref: false });
    if ("status" in intercept) {
        await reply
            .code(intercept.status)
            .headers(intercept.headers ?? {})
            .send(intercept.body ?? "");
    } else if ("drop" in intercept) {
        exchangeOf(request).dropAnswer = true;
        if (intercept.drop === "after") return;
        note(faults, request, 0);
        reply.hijack();
        request.raw.socket.destroy();
    }
}
