import { expect } from "chai";
import type { Operation } from "../../src/store/level-keys.ts";
import { RecentRecords } from "../../src/store/recent-records.ts";
import { encodeRecord } from "../../src/store/record-codec.ts";

describe("Recent records", () => {
    it("gives back what was written last under a key, an object of its own to everybody", () => {
        const recent = new RecentRecords();
        recent.wrote([put("a", { n: 1 }), put("b", { n: 2 })]);
        recent.wrote([put("a", { n: 3 })]);
        expect(recent.get("a")).to.deep.equal({ n: 3 });
        expect(recent.get("a")).not.to.equal(recent.get("a"));
        expect(recent.get("b")).to.deep.equal({ n: 2 });
    });

    it("knows nothing of what was deleted, also in the same batch, or of what it was never told", () => {
        const recent = new RecentRecords();
        recent.wrote([put("a", { n: 1 }), put("b", { n: 1 }), { type: "del", key: "b" }]);
        recent.wrote([{ type: "del", key: "a" }]);
        for (const key of ["a", "b", "c"]) expect(recent.get(key), key).to.equal(undefined);
    });

    it("says nothing of what is just being written: a look at the keys may show it already", () => {
        const recent = new RecentRecords();
        recent.wrote([put("a", { n: 1 }), put("b", { n: 1 })]);
        recent.writing([put("a", { n: 2 })]);
        expect(recent.get("a")).to.equal(undefined);
        expect(recent.get("b")).to.deep.equal({ n: 1 });
    });

    it("keeps 1,024 records, those that were written last", () => {
        const recent = new RecentRecords();
        recent.wrote([put("first", { n: 1 }), put("second", { n: 1 })]);
        recent.wrote([put("first", { n: 2 })]);
        for (let i = 0; i < 1023; i++) recent.wrote([put(`row${i}`, {}), put(`other${i}`, { n: 1 })]);
        expect(recent.get("second")).to.equal(undefined);
        expect(recent.get("first"), "rows of lists take no room").to.deep.equal({ n: 2 });
    });

    it("keeps a mebibyte of characters, however few records those are", () => {
        const recent = new RecentRecords();
        const text = "x".repeat(300_000);
        for (const key of ["a", "b", "c", "d"]) recent.wrote([put(key, { text })]);
        expect(recent.get("a")).to.equal(undefined);
        for (const key of ["b", "c", "d"]) expect(recent.get(key), key).to.deep.equal({ text });
        recent.wrote([put("e", { text: "x".repeat(2 ** 20) })]);
        for (const key of ["b", "c", "d", "e"]) expect(recent.get(key), key).to.equal(undefined);
        recent.wrote([put("f", { text })]);
        expect(recent.get("f"), "room again").to.deep.equal({ text });
    });
});

function put(key: string, record: Record<string, unknown>): Operation {
    return { type: "put", key, value: encodeRecord(key, record) };
}
