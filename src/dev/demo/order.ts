/** How a room's timeline differs from what was sent. */
export interface OrderCheck {
    /** The fewest messages that would have to be moved or removed to have each once and in order. */
    readonly outOfOrder: number;
    readonly missing: number;
}

/** Both lists hold message ids; what is in `seen` and was not expected counts for nothing. */
export function checkOrder(expected: readonly string[], seen: readonly string[]): OrderCheck {
    const place = new Map(expected.map((id, index) => [id, index]));
    const places = seen.map((id) => place.get(id)).filter((index) => index !== undefined);
    return {
        outOfOrder: places.length - longestRise(places),
        missing: expected.length - new Set(places).size,
    };
}

/** Length of the longest strictly rising subsequence: those are in order, each once; all others are not. */
function longestRise(values: readonly number[]): number {
    // At i: the lowest value with which a rising subsequence of length i + 1 can end.
    const ends: number[] = [];
    for (const value of values) {
        const at = ends.findIndex((end) => end >= value);
        ends[at === -1 ? ends.length : at] = value;
    }
    return ends.length;
}
