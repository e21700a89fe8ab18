/** Numbers that follow from a seed, so that a failure can be had again (mulberry32). */
export interface Random {
    /** From 0 up to, and without, `end`. */
    below(end: number): number;
    pick<T>(of: readonly T[]): T;
}

export function randomOf(seed: number): Random {
    let state = seed >>> 0;
    const next = (): number => {
        state = (state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
        mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
    const below = (end: number): number => Math.floor(next() * end);
    return {
        below,
        pick(of) {
            const [first] = of;
            if (first === undefined) throw new Error("nothing to pick from");
            return of[below(of.length)] ?? first;
        },
    };
}
