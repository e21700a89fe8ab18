import type { Store } from "../store/store.ts";
import { OUTBOX } from "./records.ts";

const META = "meta";
const EPOCH = "epoch";

/**
 * Hands out places in the rooms' lines: strings that sort in the order in which they were taken, over restarts too.
 * Each start is a new epoch, so nothing has to be written for a single place.
 * @param isInDoubt Whether the journal was damaged: the epoch may be older than what stands in the lines.
 */
export async function openSequence(store: Store, isInDoubt: () => boolean): Promise<() => string> {
    const last = (await store.get(META, EPOCH))?.["value"];
    const known = typeof last === "number" ? last : 0;
    const epoch = 1 + (known === 0 || isInDoubt() ? Math.max(known, await newestInLine(store)) : known);
    await store.commit([{ collection: META, key: EPOCH, record: { value: epoch } }]);
    let count = 0;
    return () => `${padded(epoch, 8)}-${padded(count++, 12)}`;
}

async function newestInLine(store: Store): Promise<number> {
    let newest = 0;
    for await (const key of store.keys({ collection: OUTBOX })) {
        const epoch = Number.parseInt(/ ([0-9a-f]{8})-[0-9a-f]{12}$/.exec(key)?.[1] ?? "0", 16);
        newest = Math.max(newest, epoch);
    }
    return newest;
}

function padded(value: number, width: number): string {
    return value.toString(16).padStart(width, "0");
}
