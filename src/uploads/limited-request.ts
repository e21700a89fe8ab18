import type { ClientRequest } from "node:http";
import { beginRequest, type HttpRequest, withCode } from "../http-request.ts";
import type { StepLimits } from "./limits.ts";

/** A request that a file comes or goes with. */
export interface LimitedRequest extends HttpRequest {
    readonly limits: StepLimits;
    readonly signal: AbortSignal;
    /** Bytes of its body. @default 0 */
    readonly size?: number;
}

/** A proxy that takes a body as a whole before it hands it on, as nginx does by default, hands it on no slower than this. */
const HANDED_ON_BYTES_PER_MS = (4 * 2 ** 20) / 1000;

/** The same as `beginRequest`, and `fail` is told of what takes too long, as an error whose code is ETIMEDOUT. */
export function limitedRequest(
    { limits, size = 0, ...rest }: LimitedRequest,
    fail: (cause: unknown) => void,
): ClientRequest {
    const request = beginRequest(rest, fail);
    const handedOnMs = Math.min(limits.totalMs, size / HANDED_ON_BYTES_PER_MS);
    limitPhases(request, { ...limits, handedOnMs }, rest.url.protocol === "https:", fail);
    return request;
}

function limitPhases(
    request: ClientRequest,
    { connectMs, headersMs, idleMs, handedOnMs }: StepLimits & { readonly handedOnMs: number },
    isTls: boolean,
    tooLate: (error: Error) => void,
): void {
    let timer: NodeJS.Timeout | undefined;
    let isAnswered = false;
    let silentMs = 0;
    const silentFor = (ms: number): void => {
        if (ms !== silentMs) request.setTimeout(ms);
        silentMs = ms;
    };
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
    // The body has gone out, as far as whoever is next.
    request.once("finish", () => {
        if (isAnswered) return;
        within(Math.max(headersMs, handedOnMs), "answer");
        silentFor(Math.max(idleMs, handedOnMs));
    });
    request.once("response", () => {
        isAnswered = true;
        stop();
        silentFor(idleMs);
    });
    request.once("close", stop);
    request.once("timeout", () => tooLate(withCode("ETIMEDOUT", `no byte for ${silentMs} ms`)));
    silentFor(idleMs);
}
