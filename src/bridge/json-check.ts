import { z } from "zod";

/**
 * JSON at the door. In one walk, because it is done for every message: zod's own `json()` tries six schemas at each
 * value, and goes on in a circle until the stack ends.
 */

/** Deeper than any event. */
const MAX_DEPTH = 100;

export const json = z.unknown().transform((value, context) => asJson(value, context));

/** An object of JSON that takes no more than so many bytes. */
export const jsonObject = (maxBytes: number) =>
    z.record(z.string(), z.unknown()).transform((value, context) =>
        asJson(value, context, (text) => {
            if (Buffer.byteLength(text) <= maxBytes) return;
            context.addIssue({ code: "custom", message: `must be at most ${maxBytes} bytes of JSON` });
        }),
    );

/**
 * The value without what is undefined in its objects, which JSON leaves out: so what is hashed, sent and read back later is
 * one and the same. For what is not JSON, an issue names the place.
 */
function asJson<T>(value: T, context: z.RefinementCtx, look?: (text: string) => void): T {
    const found = { leavesOut: false };
    const path = notJsonAt(value, 0, found);
    if (path !== undefined) {
        context.addIssue({ code: "custom", path, message: "must be JSON" });
        return z.NEVER;
    }
    if (look === undefined && !found.leavesOut) return value;
    const text = JSON.stringify(value);
    look?.(text);
    return found.leavesOut ? (JSON.parse(text) as T) : value;
}

/** Where a value stops being JSON, undefined for one that is JSON throughout: the path is made on the way back up. */
function notJsonAt(value: unknown, depth: number, found: { leavesOut: boolean }): (string | number)[] | undefined {
    if (value === null || typeof value === "string" || typeof value === "boolean") return undefined;
    if (typeof value === "number") return Number.isFinite(value) ? undefined : [];
    if (typeof value !== "object" || depth > MAX_DEPTH) return [];
    if (Array.isArray(value)) {
        // By index: what an array leaves out is no JSON either.
        for (let index = 0; index < value.length; index++) {
            const path = notJsonAt(value[index], depth + 1, found);
            if (path !== undefined) return [index, ...path];
        }
        return undefined;
    }
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return [];
    for (const key of Object.keys(value)) {
        const own = (value as Record<string, unknown>)[key];
        if (own === undefined) {
            found.leavesOut = true;
            continue;
        }
        const path = notJsonAt(own, depth + 1, found);
        if (path !== undefined) return [key, ...path];
    }
    return undefined;
}
