export type JsonObject = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is JsonObject =>
    typeof value === "object" && value !== null && !Array.isArray(value);

/** The text under a key; undefined when there is none, or something else. */
export function textAt(object: unknown, key: string): string | undefined {
    const value = isObject(object) ? object[key] : undefined;
    return typeof value === "string" ? value : undefined;
}
