import { type Agent, type ClientRequest, request as httpRequest } from "node:http";
import { type Agent as HttpsAgent, request as httpsRequest } from "node:https";

export interface HttpRequest {
    readonly method: "GET" | "PUT" | "POST";
    readonly url: URL;
    readonly headers: Readonly<Record<string, string | number>>;
    readonly agents: { readonly http: Agent; readonly https: HttpsAgent };
    readonly signal?: AbortSignal | undefined;
}

/**
 * Begins a request over node:http, whose body is still to be written and ended. A library's request costs two to three
 * times the processor time.
 *
 * @param fail Told of every failure: the connection's, its end without an answer, the signal's reason. To destroy the
 * request, or its answer where that is being read, is left to it.
 * Throws the signal's reason.
 */
export function beginRequest(
    { method, url, headers, agents, signal }: HttpRequest,
    fail: (cause: unknown) => void,
): ClientRequest {
    signal?.throwIfAborted();
    const isTls = url.protocol === "https:";
    const request = (isTls ? httpsRequest : httpRequest)(url, {
        method,
        headers,
        agent: isTls ? agents.https : agents.http,
    });
    let isAnswered = false;
    const onAbort = (): void => fail(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    request.on("error", fail);
    request.once("response", () => {
        isAnswered = true;
    });
    request.once("close", () => {
        signal?.removeEventListener("abort", onAbort);
        // Node.js ends a request that was answered with another protocol (101) without a word.
        if (!isAnswered) fail(withCode("ECONNRESET", "closed without an answer"));
    });
    return request;
}

/** An error as the system's are. */
export function withCode(code: string, message: string): Error {
    return Object.assign(new Error(message), { code });
}
