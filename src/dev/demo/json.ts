/** JSON of others: nothing is taken for granted about it. */

export type Json = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Json {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The object, or an empty one in place of anything else. */
export function objectOf(value: unknown): Json {
    return isObject(value) ? value : {};
}

export function textOf(value: unknown, otherwise = ""): string {
    return typeof value === "string" ? value : otherwise;
}
