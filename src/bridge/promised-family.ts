import type { JsonObject } from "../matrix/answer.ts";
import { asObject, valueAt } from "./content-path.ts";

/**
 * What a file must be where its message names no media type: an `m.image` says picture also without one, and a web page
 * that comes in its place must not be shown as one. Only for the check of the bytes; what type the file is
 * uploaded as, its source says.
 */

const FAMILY_OF: Readonly<Record<string, string>> = {
    "m.image": "image/*",
    "m.video": "video/*",
    "m.audio": "audio/*",
};

/** Of a user or a room. */
export const PICTURE = "image/*";

/** Undefined where anything may come. */
export function promisedFamily(content: JsonObject, eventType: string, at: readonly string[]): string | undefined {
    const last = at.at(-1) ?? "";
    if (/^thumbnail_(?:url|file)$/.test(last)) return "image/*";
    if (last !== "url" && last !== "file") return undefined;
    if (eventType === "m.sticker") return "image/*";
    // Of a message, or of an element of its gallery (MSC4274).
    const { msgtype, itemtype } = asObject(valueAt(content, at.slice(0, -1)));
    const kind = itemtype ?? msgtype;
    return typeof kind === "string" && Object.hasOwn(FAMILY_OF, kind) ? FAMILY_OF[kind] : undefined;
}
