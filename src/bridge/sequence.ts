import type { Store } from "../store/store.ts";

const META = "meta";
const EPOCH = "epoch";

/**
 * Hands out places in the rooms' lines: strings that sort in the order in which they were taken, over restarts too.
 * Each start is a new epoch, so nothing has to be written for a single place.
 */
export async function openSequence(store: Store): Promise<() => string> {
    const last = (await store.get(META, EPOCH))?.["value"];
    const epoch = (typeof last === "number" ? last : 0) + 1;
    await store.commit([{ collection: META, key: EPOCH, record: { value: epoch } }]);
    let count = 0;
    return () => `${padded(epoch, 8)}-${padded(count++, 12)}`;
}

function padded(value: number, width: number): string {
    return value.toString(16).padStart(width, "0");
}
