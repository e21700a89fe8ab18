import assert from "node:assert/strict";
import type { Range, Store } from "../store/store.ts";
import { keysOf, recordsOf, type StoreRule } from "./open-stores.ts";

/** The rules on ranges: which keys, in which order, and of which moment. */

async function fill(store: Store, keys: readonly string[], collection = "things"): Promise<void> {
    await store.commit(keys.map((key) => ({ collection, key, record: { key } })));
}

async function expectKeys(store: Store, range: Omit<Range, "collection">, expected: readonly string[]): Promise<void> {
    const of = { collection: "things", ...range };
    assert.deepEqual(await keysOf(store, of), expected, JSON.stringify(range));
    assert.deepEqual(
        await recordsOf(store, of),
        expected.map((key) => [key, { key }]),
        JSON.stringify(range),
    );
}

export const storeRangeRules: readonly StoreRule[] = [
    [
        "keeps collections apart, also where one's name begins with the other's",
        async ({ open }) => {
            const store = await open();
            await fill(store, ["a", "s"], "thing");
            await fill(store, ["b"], "things");
            await fill(store, ["c"], "things-2");
            await expectKeys(store, {}, ["b"]);
            await expectKeys(store, { prefix: "a" }, []);
        },
    ],
    [
        "gives keys in the order of their UTF-8 bytes",
        async ({ open }) => {
            const store = await open();
            // In UTF-16 the emoji would come before U+FFFD.
            const keys = ["", "10", "2", "A", "a", "a b", "a\u00e9", "\u00e9", "\ufffd", "😀"];
            await fill(store, keys.toReversed());
            await expectKeys(store, {}, keys);
        },
    ],
    [
        "gives the keys with a prefix and no others",
        async ({ open }) => {
            const store = await open();
            await fill(store, ["a", "b", "b 1", "b 2", "b\u{10fffd}", "b😀", "ba", "c"]);
            await expectKeys(store, { prefix: "b " }, ["b 1", "b 2"]);
            await expectKeys(store, { prefix: "b" }, ["b", "b 1", "b 2", "ba", "b😀", "b\u{10fffd}"]);
            await expectKeys(store, { prefix: "d" }, []);
        },
    ],
    [
        "gives the keys strictly after and strictly before others, there or not",
        async ({ open }) => {
            const store = await open();
            await fill(store, ["a", "b", "c", "d"]);
            await expectKeys(store, { after: "b" }, ["c", "d"]);
            await expectKeys(store, { after: "bb" }, ["c", "d"]);
            await expectKeys(store, { before: "c" }, ["a", "b"]);
            await expectKeys(store, { before: "bb" }, ["a", "b"]);
            await expectKeys(store, { after: "a", before: "d" }, ["b", "c"]);
            await expectKeys(store, { after: "c", before: "b" }, []);
            await expectKeys(store, { after: "d" }, []);
        },
    ],
    [
        "keeps to the prefix when bounds reach beyond it",
        async ({ open }) => {
            const store = await open();
            await fill(store, ["a", "b 1", "b 2", "b 3", "c"]);
            await expectKeys(store, { prefix: "b ", after: "b 1" }, ["b 2", "b 3"]);
            await expectKeys(store, { prefix: "b ", before: "b 3" }, ["b 1", "b 2"]);
            await expectKeys(store, { prefix: "b ", after: "a" }, ["b 1", "b 2", "b 3"]);
            await expectKeys(store, { prefix: "b ", before: "d" }, ["b 1", "b 2", "b 3"]);
            await expectKeys(store, { prefix: "b ", after: "c" }, []);
        },
    ],
    [
        "gives at most as many as the limit",
        async ({ open }) => {
            const store = await open();
            await fill(store, ["a", "b 1", "b 2", "b 3"]);
            await expectKeys(store, { limit: 1 }, ["a"]);
            await expectKeys(store, { prefix: "b", after: "b 1", limit: 1 }, ["b 2"]);
            await expectKeys(store, { limit: 9 }, ["a", "b 1", "b 2", "b 3"]);
        },
    ],
    [
        "shows an iteration the store as it was when it began, and lets it be left early",
        async ({ open }) => {
            const store = await open();
            await fill(store, ["a", "b", "c"]);
            const seen: string[] = [];
            for await (const [key] of store.range({ collection: "things" })) {
                seen.push(key);
                await store.commit([{ collection: "things", key: "b" }]);
                await fill(store, ["d"]);
            }
            assert.deepEqual(seen, ["a", "b", "c"]);
            for await (const key of store.keys({ collection: "things" })) {
                assert.equal(key, "a");
                break;
            }
            await expectKeys(store, {}, ["a", "c", "d"]);
        },
    ],
];
