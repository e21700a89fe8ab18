import assert from "node:assert/strict";
import type { Store, Write } from "../store/store.ts";
import type { ContractCase } from "./contract-case.ts";
import { keysOf, type StoreRule, withStores } from "./open-stores.ts";
import { storeRangeRules } from "./store-range-contract.ts";

/**
 * What every store has to keep, as it stands on top of `Store`. Each case makes a directory of its own and removes it.
 * @param create Makes a store on a directory that exists; called again on the same one when a case reopens it.
 */
export function storeContract(create: (directory: string) => Store): ContractCase[] {
    return [...RULES, ...storeRangeRules].map(([name, check]) => ({ name, run: () => withStores(create, check) }));
}

const put = (key: string, value: unknown, collection = "things"): Write => ({ collection, key, record: { value } });
const valueOf = async (store: Store, key: string): Promise<unknown> => (await store.get("things", key))?.["value"];
const coded = (code: string) => (error: unknown) => (error as { code?: unknown }).code === code;

const RULES: readonly StoreRule[] = [
    [
        "gives back what was committed, whatever JSON it is, and undefined for what was not",
        async ({ open }) => {
            const store = await open();
            const record = { text: "ü 😀 \u0000 \n", list: [1, null, { deep: true }], empty: {}, half: 0.5 };
            await store.commit([{ collection: "things", key: "a", record }]);
            assert.deepEqual(await store.get("things", "a"), record);
            assert.equal(await store.get("things", "b"), undefined);
            assert.equal(await store.get("other", "a"), undefined);
        },
    ],
    [
        "replaces and deletes records; deleting what is not there is no error",
        async ({ open }) => {
            const store = await open();
            await store.commit([put("a", 1), put("b", 1)]);
            await store.commit([put("a", 2), { collection: "things", key: "b" }, { collection: "things", key: "c" }]);
            assert.equal(await valueOf(store, "a"), 2);
            assert.deepEqual(await keysOf(store, { collection: "things" }), ["a"]);
        },
    ],
    [
        "keeps what was committed, whatever becomes of the object afterwards, or of one that it gave back",
        async ({ open }) => {
            const store = await open();
            const record = { value: { list: [1] } };
            await store.commit([{ collection: "things", key: "a", record }]);
            record.value.list.push(2);
            for (let reading = 0; reading < 2; reading++) {
                const value = (await valueOf(store, "a")) as typeof record.value;
                assert.deepEqual(value, { list: [1] });
                value.list.push(3);
            }
        },
    ],
    [
        "takes any key without U+0000, up to 2,048 bytes",
        async ({ open }) => {
            const store = await open();
            const keys = ["", " ", "!room:example.org 000001", "a/b\\c", "\u0001", "ü".repeat(1024), "😀"];
            await store.commit(keys.map((key) => put(key, key)));
            for (const key of keys) assert.equal(await valueOf(store, key), key);
            assert.equal((await keysOf(store, { collection: "things" })).length, keys.length);
        },
    ],
    [
        "finds a long key of any characters after short ones",
        async ({ open }) => {
            const store = await open();
            for (let length = 1; length < 600; length++) {
                const key = `${"ü".repeat(length)}${length % 2 === 0 ? "" : "x"}`;
                await store.commit([put(key, length)]);
                assert.equal(await valueOf(store, ""), undefined);
                assert.equal(await valueOf(store, key), length);
            }
        },
    ],
    [
        "takes a commit of nothing, a record of a mebibyte and a thousand writes at once",
        async ({ open }) => {
            const store = await open();
            await store.commit([]);
            await store.commit([put("big", "x".repeat(2 ** 20))]);
            await store.commit(Array.from({ length: 1000 }, (_, index) => put(String(index), index, "many")));
            assert.equal(String(await valueOf(store, "big")).length, 2 ** 20);
            assert.equal((await keysOf(store, { collection: "many" })).length, 1000);
        },
    ],
    [
        "shows none of a commit's writes when it rejects, and goes on after it",
        async ({ open }) => {
            const store = await open();
            await store.commit([put("old", 1)]);
            // No JSON holds a bigint, so this commit can only be refused.
            const writes = [put("a", 1), { collection: "things", key: "old" }, put("b", 1n)];
            await assert.rejects(async () => store.commit(writes));
            assert.deepEqual(await keysOf(store, { collection: "things" }), ["old"]);
            await store.commit([put("c", 1)]);
            assert.deepEqual(await keysOf(store, { collection: "things" }), ["c", "old"]);
        },
    ],
    [
        "lets the last of a commit's writes to a key win",
        async ({ open }) => {
            const store = await open();
            await store.commit([put("a", 1), put("a", 2), put("b", 1), { collection: "things", key: "b" }]);
            assert.equal(await valueOf(store, "a"), 2);
            assert.equal(await valueOf(store, "b"), undefined);
        },
    ],
    [
        "commits in the order of the calls, also when none is awaited",
        async ({ open }) => {
            const store = await open();
            const settled: number[] = [];
            const commits = Array.from({ length: 200 }, async (_, index) => {
                await store.commit([put("last", index), put(String(index).padStart(3, "0"), index)]);
                settled.push(index);
            });
            await commits[100];
            // What was called before is there when a later commit resolves.
            assert.ok((await keysOf(store, { collection: "things", before: "101" })).length >= 101);
            await Promise.all(commits);
            assert.equal(await valueOf(store, "last"), 199);
            assert.deepEqual(
                settled,
                settled.toSorted((one, other) => one - other),
            );
        },
    ],
    [
        "keeps everything over close and open",
        async ({ open }) => {
            const store = await open();
            await store.commit([put("a", 1), put("b", 1)]);
            await store.commit([{ collection: "things", key: "a" }]);
            await store.close();
            const again = await open();
            assert.deepEqual(await keysOf(again, { collection: "things" }), ["b"]);
        },
    ],
    [
        "waits with close for commits that nobody awaited",
        async ({ open }) => {
            const store = await open();
            const commits = Array.from({ length: 50 }, (_, index) => store.commit([put(String(index), index)]));
            await store.close();
            await Promise.all(commits);
            const again = await open();
            assert.equal((await keysOf(again, { collection: "things" })).length, 50);
        },
    ],
    [
        "refuses commits after close with CLOSED",
        async ({ open }) => {
            const store = await open();
            await store.close();
            await assert.rejects(store.commit([put("a", 1)]), coded("CLOSED"));
        },
    ],
    [
        "refuses to open what is open already with STORE_LOCKED, and leaves the first one working",
        async ({ open }) => {
            const store = await open();
            await assert.rejects(open(), coded("STORE_LOCKED"));
            await store.commit([put("a", 1)]);
            assert.equal(await valueOf(store, "a"), 1);
            await store.close();
            const next = await open();
            assert.equal(await valueOf(next, "a"), 1);
        },
    ],
];
