import type { JsonObject } from "../matrix/answer.ts";

/**
 * Places in an event's content: keys of objects, and indexes of arrays that the content has already. Nothing here
 * changes what it is given, and nothing moves an array's other elements, whose places jobs refer to.
 */

const INDEX = /^(?:0|[1-9]\d{0,5})$/;

/** What stands at a place; undefined where there is nothing. */
export function valueAt(value: unknown, path: readonly string[]): unknown {
    return path.reduce(child, value);
}

/** A copy of `content` with `value` at the place; objects are made where they are missing, and no arrays. */
export function placed(content: JsonObject, path: readonly string[], value: unknown): JsonObject {
    return isPlace(content, path) ? asObject(put(content, path, value)) : content;
}

/** A copy of `content` without what stands at the place; an element of an array leaves `null` behind. */
export function without(content: JsonObject, path: readonly string[]): JsonObject {
    const [last = ""] = path.slice(-1);
    const parent = path.slice(0, -1);
    const holder = valueAt(content, parent);
    if (Array.isArray(holder)) return has(holder, last) ? placed(content, path, null) : content;
    if (!isObject(holder) || !Object.hasOwn(holder, last)) return content;
    const { [last]: _, ...others } = holder;
    return asObject(put(content, parent, others));
}

/** The innermost array that the place leads through: its elements, and the place below an element. */
export function galleryOf(
    content: JsonObject,
    path: readonly string[],
): { readonly items: readonly unknown[]; readonly below: readonly string[] } | undefined {
    for (let length = path.length - 1; length > 0; length--) {
        const items = valueAt(content, path.slice(0, length));
        if (Array.isArray(items)) return { items, below: path.slice(length + 1) };
    }
    return undefined;
}

/** Whether every array that the place leads through is there, and has the element it names. */
export function isPlace(content: unknown, path: readonly string[]): boolean {
    let holder = content;
    for (const key of path) {
        // An index names an element of what is there: an object in place of an array is nothing that a client knows.
        if (Array.isArray(holder) ? !has(holder, key) : !isObject(holder) && INDEX.test(key)) return false;
        holder = child(holder, key);
    }
    return true;
}

/** Where an event describes the file that stands at `at`: in `info`, or in `thumbnail_info` for its thumbnail. */
export function infoPath(at: readonly string[]): readonly string[] {
    const last = at.at(-1) ?? "";
    return [...at.slice(0, -1), /_(?:url|file)$/.test(last) ? last.replace(/_(?:url|file)$/, "_info") : "info"];
}

export function isObject(value: unknown): value is JsonObject {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function asObject(value: unknown): JsonObject {
    return isObject(value) ? value : {};
}

function put(holder: unknown, [key, ...rest]: readonly string[], value: unknown): unknown {
    if (key === undefined) return value;
    if (!Array.isArray(holder)) return { ...asObject(holder), [key]: put(child(holder, key), rest, value) };
    return has(holder, key) ? holder.with(Number(key), put(child(holder, key), rest, value)) : holder;
}

function child(holder: unknown, key: string): unknown {
    if (Array.isArray(holder)) return has(holder, key) ? (holder[Number(key)] as unknown) : undefined;
    return isObject(holder) && Object.hasOwn(holder, key) ? holder[key] : undefined;
}

function has(array: readonly unknown[], key: string): boolean {
    return INDEX.test(key) && Number(key) < array.length;
}
