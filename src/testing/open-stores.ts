import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Range, Store, StoredRecord } from "../store/store.ts";

/** Opens stores on one temporary directory, and cleans up behind a case however it ended. */
export interface OpenStores {
    /** A new store on the directory, opened; damage it reports fails the case. */
    readonly open: () => Promise<Store>;
}

/** A rule on stores: its name, and what has to hold. */
export type StoreRule = readonly [name: string, check: (stores: OpenStores) => Promise<void>];

export async function withStores(
    create: (directory: string) => Store,
    body: (stores: OpenStores) => Promise<void>,
): Promise<void> {
    const directory = await mkdtemp(join(tmpdir(), "store-contract-"));
    const opened: Store[] = [];
    const damage: unknown[] = [];
    try {
        await body({
            async open() {
                const store = create(directory);
                await store.open((found) => void damage.push(found));
                opened.push(store);
                return store;
            },
        });
        if (damage.length > 0) throw new Error(`The store reported damage: ${JSON.stringify(damage)}`);
    } finally {
        // A case may have closed its stores itself; closing twice is allowed to fail.
        for (const store of opened) await store.close().catch(() => {});
        await rm(directory, { recursive: true, force: true });
    }
}

export async function keysOf(store: Store, range: Range): Promise<string[]> {
    const found: string[] = [];
    for await (const key of store.keys(range)) found.push(key);
    return found;
}

export async function recordsOf(store: Store, range: Range): Promise<[string, StoredRecord][]> {
    const found: [string, StoredRecord][] = [];
    for await (const [key, record] of store.range(range)) found.push([key, record]);
    return found;
}
