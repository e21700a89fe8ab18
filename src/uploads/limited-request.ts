import type { ClientRequest } from "node:http";
import { beginRequest, type HttpRequest, withCode } from "../http-request.ts";
import type { StepLimits } from "./limits.ts";

/** A request that a file comes or goes with. */
export interface LimitedRequest extends HttpRequest {
    readonly limits: StepLimits;
    readonly signal: AbortSignal;
}

/** The same as `beginRequest`, and `fail` is told of what takes too long, as an error whose code is ETIMEDOUT. */
export function limitedRequest({ limits, ...rest }: LimitedRequest, fail: (cause: unknown) => void): ClientRequest {
    const request = beginRequest(rest, fail);
    limitPhases(request, limits, rest.url.protocol === "https:", fail);
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
