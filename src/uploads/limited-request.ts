import { type Agent, type ClientRequest, request as httpRequest } from "node:http";
import { type Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { StepLimits } from "./limits.ts";

/**
 * The HTTP requests that files come and go with: node:http, with a transfer's time limits and its signal. A library's
 * request costs up to a sixth of what a small file costs in all, and copies what passes through from stream to stream.
 */
export interface HttpRequest {
    readonly method: "GET" | "PUT" | "POST";
    readonly url: URL;
    readonly headers: Readonly<Record<string, string | number>>;
    readonly agents: { readonly http: Agent; readonly https: HttpsAgent };
    readonly limits: StepLimits;
    readonly signal: AbortSignal;
}

/**
 * Begins a request, whose body is still to be written and ended.
 *
 * @param fail Told of every failure: the connection's, the signal's reason, and what takes too long, as an error whose
 * code is ETIMEDOUT. To destroy the request, or its answer where that is being read, is left to it.
 * Throws the signal's reason.
 */
export function limitedRequest(
    { method, url, headers, agents, limits, signal }: HttpRequest,
    fail: (cause: unknown) => void,
): ClientRequest {
    signal.throwIfAborted();
    const isTls = url.protocol === "https:";
    const request = (isTls ? httpsRequest : httpRequest)(url, {
        method,
        headers,
        agent: isTls ? agents.https : agents.http,
    });
    let isAnswered = false;
    const onAbort = (): void => fail(signal.reason);
    signal.addEventListener("abort", onAbort);
    request.on("error", fail);
    request.once("response", () => {
        isAnswered = true;
    });
    request.once("close", () => {
        signal.removeEventListener("abort", onAbort);
        // Node.js ends a request that was answered with another protocol (101) without a word.
        if (!isAnswered) fail(withCode("ECONNRESET", "closed without an answer"));
    });
    limitPhases(request, limits, isTls, fail);
    return request;
}

function limitPhases(
    request: ClientRequest,
    { connectMs, headersMs, idleMs }: StepLimits,
    isTls: boolean,
    tooLate: (error: Error) => void,
): void {
    let timer: NodeJS.Timeout | undefined;
    let isAnswered = false;
    const stop = (): void => clearTimeout(timer);
    const within = (ms: number, missing: string): void => {
        stop();
        timer = setTimeout(() => tooLate(withCode("ETIMEDOUT", `no ${missing} within ${ms} ms`)), ms);
    };
    request.once("socket", (socket) => {
        if (!socket.connecting) return;
        const connecting = (): void => within(connectMs, "connection");
        connecting();
        socket.once("lookup", connecting);
        socket.once("connect", () => {
            // It outlives this request, and an address has nothing to look up.
            socket.off("lookup", connecting);
            if (isTls) connecting();
            else stop();
        });
        if (isTls) socket.once("secureConnect", stop);
    });
    // The body has gone out.
    request.once("finish", () => {
        if (!isAnswered) within(headersMs, "answer");
    });
    request.once("response", () => {
        isAnswered = true;
        stop();
    });
    request.once("close", stop);
    request.setTimeout(idleMs, () => tooLate(withCode("ETIMEDOUT", `no byte for ${idleMs} ms`)));
}

function withCode(code: string, message: string): Error {
    return Object.assign(new Error(message), { code });
}
