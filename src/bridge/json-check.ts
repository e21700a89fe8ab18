import { z } from "zod";

/**
 * JSON at the door. In one walk, because it is done for every message: zod's own `json()` tries six schemas at each
 * value, and goes on in a circle until the stack ends.
 */

/** Deeper than any event. */
const MAX_DEPTH = 100;

export const json = z.unknown().superRefine((value, context) => void refuseOther(value, context));

/** An object of JSON that takes no more than so many bytes. */
export const jsonObject = (maxBytes: number) =>
    z.record(z.string(), z.unknown()).superRefine((value, context) => {
        if (refuseOther(value, context) || Buffer.byteLength(JSON.stringify(value)) <= maxBytes) return;
        context.addIssue({ code: "custom", message: `must be at most ${maxBytes} bytes of JSON` });
    });

/** True, with an issue that names the place, for what is not JSON. */
function refuseOther(value: unknown, context: z.RefinementCtx): boolean {
    const path = notJsonAt(value, []);
    if (path !== undefined) context.addIssue({ code: "custom", path: [...path], message: "must be JSON" });
    return path !== undefined;
}

/** Where a value stops being JSON, undefined for one that is JSON throughout. */
function notJsonAt(value: unknown, path: readonly (string | number)[]): readonly (string | number)[] | undefined {
    if (value === null || typeof value === "string" || typeof value === "boolean") return undefined;
    if (typeof value === "number") return Number.isFinite(value) ? undefined : path;
    if (typeof value !== "object" || path.length > MAX_DEPTH) return path;
    if (Array.isArray(value)) return firstOf(value.entries(), path);
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return path;
    return firstOf(Object.entries(value), path);
}

function firstOf(
    entries: Iterable<readonly [string | number, unknown]>,
    path: readonly (string | number)[],
): readonly (string | number)[] | undefined {
    for (const [key, value] of entries) {
        const found = notJsonAt(value, [...path, key]);
        if (found !== undefined) return found;
    }
    return undefined;
}
