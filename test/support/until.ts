import { setTimeout as sleep } from "node:timers/promises";

/** Waits until `condition` gives something, and returns it. The limit only ends a test that has failed anyway. */
export async function until<T>(
    condition: () => T | Promise<T>,
    { what = String(condition), limitMs = 15_000 }: { what?: string; limitMs?: number } = {},
): Promise<NonNullable<T>> {
    const end = performance.now() + limitMs;
    while (true) {
        const value = await condition();
        if (value !== undefined && value !== null && value !== false) return value;
        if (performance.now() > end) throw new Error(`Never came: ${what}`);
        await sleep(5);
    }
}
