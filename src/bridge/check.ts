import type { z } from "zod";
import { type ErrorCode, MediaError } from "../errors.ts";

/** Parses, or throws `code` with the first wrong field's path: `media[0].source.url`. */
export function check<T>(schema: z.ZodType<T>, input: unknown, code: ErrorCode, name: string): T {
    const result = schema.safeParse(input);
    if (result.success) return result.data;
    const [issue] = result.error.issues;
    const unknown = issue?.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
    const field = fieldName([...(issue?.path ?? []), ...unknown]) || name;
    const detail = unknown.length > 0 ? "there is no such field" : (issue?.message ?? "not valid");
    throw new MediaError(code, { field, detail });
}

function fieldName(path: readonly PropertyKey[]): string {
    return path.reduce<string>((name, key) => {
        if (typeof key === "number") return `${name}[${key}]`;
        return name === "" ? String(key) : `${name}.${String(key)}`;
    }, "");
}
