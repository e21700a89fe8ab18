import type { RaceMessage } from "../../processes/race/message.ts";

/** What a room of people sends: mostly text, some photos, now and then something large. */
export interface Mix {
    /** Messages a second, on average, over all rooms. */
    readonly perSecond: number;
    readonly seconds: number;
    readonly kinds: readonly { readonly part: number; readonly bytes: number }[];
    readonly rooms: readonly { readonly roomId: string; readonly sender: string }[];
}

/** The same load for the same seed; arrivals do not wait for anything. @param prefix Of the keys, which nobody uses twice. */
export function mixedLoad(
    { perSecond, seconds, kinds, rooms }: Mix,
    { seed, prefix, urlOf }: { seed: number; prefix: string; urlOf: (size: number) => string },
): RaceMessage[] {
    const random = randomFrom(seed);
    const messages: RaceMessage[] = [];
    let atMs = 0;
    while (true) {
        atMs += (-Math.log(1 - random()) / perSecond) * 1000;
        if (atMs > seconds * 1000) return messages;
        const room = rooms[Math.floor(random() * rooms.length)];
        const bytes = pick(kinds, random());
        if (room === undefined) throw new Error("no rooms");
        const key = `${prefix} ${messages.length}`;
        messages.push({ ...room, key, atMs, ...(bytes > 0 && { file: { url: urlOf(bytes), size: bytes } }) });
    }
}

function pick(kinds: Mix["kinds"], value: number): number {
    let sum = 0;
    for (const { part, bytes } of kinds) {
        sum += part;
        if (value < sum) return bytes;
    }
    return 0;
}

/** mulberry32. */
function randomFrom(seed: number): () => number {
    let state = seed;
    return () => {
        state = (state + 0x6d2b79f5) | 0;
        let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
        mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}
