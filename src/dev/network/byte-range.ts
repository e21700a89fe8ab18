/** Part of a file: the bytes from `start` up to and without `end`. */
export interface ByteRange {
    readonly start: number;
    readonly end: number;
}

export interface RangeRequest {
    readonly range?: string | undefined;
    readonly ifRange?: string | undefined;
}

/**
 * What a request asks for of a file: a range, "whole" for all of it, or "unsatisfiable". Several ranges at once and
 * what cannot be read are answered with the whole file, as RFC 9110 section 14.2 allows.
 */
export function requestedRange(
    { range, ifRange }: RangeRequest,
    { size, etag }: { readonly size: number; readonly etag: string },
): ByteRange | "whole" | "unsatisfiable" {
    // RFC 9110 section 13.1.5: a validator that does not match means that the file changed, so the range is ignored.
    if (range === undefined || (ifRange !== undefined && ifRange !== etag)) return "whole";
    const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(range.trim()) ?? [];
    if (first === undefined || last === undefined || (first === "" && last === "")) return "whole";
    if (first === "") return satisfiable({ start: Math.max(0, size - Number(last)), end: size });
    if (last !== "" && Number(last) < Number(first)) return "whole";
    return satisfiable({ start: Number(first), end: last === "" ? size : Math.min(size, Number(last) + 1) });
}

function satisfiable(range: ByteRange): ByteRange | "unsatisfiable" {
    return range.start < range.end ? range : "unsatisfiable";
}
