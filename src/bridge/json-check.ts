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
    const path = notJsonAt(value, 0);
    if (path !== undefined) context.addIssue({ code: "custom", path, message: "must be JSON" });
    return path !== undefined;
}

/** Where a value stops being JSON, undefined for one that is JSON throughout: the path is made on the way back up. */
function notJsonAt(value: unknown, depth: number): (string | number)[] | undefined {
    if (value === null || typeof value === "string" || typeof value === "boolean") return undefined;
    if (typeof value === "number") return Number.isFinite(value) ? undefined : [];
    if (typeof value !== "object" || depth > MAX_DEPTH) return [];
    if (Array.isArray(value)) {
        // By index: what an array leaves out is no JSON either.
        for (let index = 0; index < value.length; index++) {
            const found = notJsonAt(value[index], depth + 1);
            if (found !== undefined) return [index, ...found];
        }
        return undefined;
    }
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return [];
    for (const key of Object.keys(value)) {
        const found = notJsonAt((value as Record<string, unknown>)[key], depth + 1);
        if (found !== undefined) return [key, ...found];
    }
    return undefined;
}
