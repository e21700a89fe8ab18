import type { Answer } from "./answer.ts";

/**
 * What an error of somebody else's says of the answer that it stands for: an SDK's, a bridge's own intent's, a connector's HTTP
 * client's. They are known by their fields, not their class, for there are several copies of an SDK.
 */

/** matrix-bot-sdk and `request`: `statusCode`; matrix-js-sdk: `httpStatus`; fetch and axios: `status`, also of `response`. */
const STATUS_NAMES = ["statusCode", "httpStatus", "status"];
/** Where else matrix-js-sdk, matrix-bot-sdk and axios keep an answer's body. */
const BODY_NAMES = ["data", "body"];

/** The HTTP status, which is that of no success; undefined where there is none. */
export function thrownStatus(thrown: unknown): number | undefined {
    for (const holder of [thrown, property(thrown, "response")]) {
        for (const name of STATUS_NAMES) {
            const status = property(holder, name);
            if (Number.isInteger(status) && Number(status) >= 300 && Number(status) <= 599) return Number(status);
        }
    }
    return undefined;
}

/** The homeserver's answer; undefined where nothing names one. A Matrix code alone is one: its status is the spec's. */
export function thrownAnswer(thrown: unknown): Answer | undefined {
    const holders = [thrown, property(thrown, "response")];
    const bodies = holders.flatMap((holder) => [holder, ...BODY_NAMES.map((name) => property(holder, name))]);
    const said = (name: string): unknown =>
        bodies.map((body) => property(body, name)).find((value) => value !== undefined);
    const errcode = said("errcode");
    const status = thrownStatus(thrown) ?? statusOf(errcode);
    if (status === undefined) return undefined;
    // matrix-bot-sdk has a name of its own for it.
    const told = said("retry_after_ms") ?? said("retryAfterMs");
    return { status, body: { errcode, retry_after_ms: told } };
}

/** Of Matrix codes whose status says more than that the request was refused. Spec: "Common error codes". */
const STATUSES = new Map<unknown, number>([
    ["M_FORBIDDEN", 403],
    ["M_UNKNOWN_TOKEN", 401],
    ["M_MISSING_TOKEN", 401],
    ["M_LIMIT_EXCEEDED", 429],
    ["M_NOT_FOUND", 404],
    ["M_UNRECOGNIZED", 404],
    ["M_TOO_LARGE", 413],
    // Said of everything, and then mostly with a 500.
    ["M_UNKNOWN", 500],
]);

function statusOf(errcode: unknown): number | undefined {
    if (typeof errcode !== "string" || !/^[\w.-]+_[\w.-]+$/.test(errcode)) return undefined;
    return STATUSES.get(errcode) ?? 400;
}

/** A field of anything. */
export function property(holder: unknown, name: string): unknown {
    return typeof holder === "object" && holder !== null ? Reflect.get(holder, name) : undefined;
}
