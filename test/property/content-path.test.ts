import { expect } from "chai";
import fc from "fast-check";
import { galleryOf, isPlace, placed, valueAt, without } from "../../src/bridge/content-path.ts";

const key = fc.oneof(fc.constantFrom("url", "info", "items", "0", "1", "02", "length"), fc.string({ maxLength: 3 }));
const { content } = fc.letrec<{ node: unknown; content: Record<string, unknown> }>((tie) => ({
    node: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom(1, "text", null, true),
        fc.array(tie("node"), { maxLength: 3 }),
        fc.dictionary(key, tie("node"), { maxKeys: 3 }),
    ),
    content: fc.dictionary(key, tie("node"), { maxKeys: 4 }),
}));
const path = fc
    .array(key, { minLength: 1, maxLength: 5 })
    .filter((keys) => !keys.some((name) => ["__proto__", "constructor", "prototype"].includes(name)));

/** Every array in a value, with where it stands. */
function arraysIn(value: unknown, at: readonly string[] = []): (readonly [string, number])[] {
    if (typeof value !== "object" || value === null) return [];
    const own = Array.isArray(value) ? [[JSON.stringify(at), value.length] as const] : [];
    return [...own, ...Object.entries(value).flatMap(([name, inner]) => arraysIn(inner, [...at, name]))];
}

describe("places in an event's content", () => {
    it("hold what was put there, and nothing else changes", () => {
        fc.assert(
            fc.property(content, path, (given, at) => {
                fc.pre(isPlace(given, at));
                const before = structuredClone(given);
                const shown = placed(given, at, "mxc://a/b");
                expect(given).to.deep.equal(before);
                expect(valueAt(shown, at)).to.equal("mxc://a/b");
                // Back to what it was, but for objects that had to be made.
                const old = valueAt(given, at);
                if (old !== undefined) expect(placed(shown, at, old)).to.deep.equal(given);
            }),
        );
    });

    it("move no element of any array when one is emptied", () => {
        fc.assert(
            fc.property(content, path, (given, at) => {
                const before = structuredClone(given);
                const shown = without(given, at);
                expect(given).to.deep.equal(before);
                expect(valueAt(shown, at) ?? undefined).to.equal(undefined);
                const kept = new Map(arraysIn(shown));
                for (const [where, length] of arraysIn(given)) {
                    const isBelow = where.startsWith(JSON.stringify(at).slice(0, -1));
                    if (!isBelow) expect(kept.get(where)).to.equal(length);
                }
            }),
        );
    });

    it("never leave an array for something that is no element of it", () => {
        fc.assert(
            fc.property(content, path, (given, at) => {
                const shown = placed(given, at, 1);
                for (const [where, length] of arraysIn(given)) {
                    if (where === JSON.stringify(at)) continue;
                    expect(new Map(arraysIn(shown)).get(where) ?? length).to.equal(length);
                }
                if (!isPlace(given, at)) expect(shown).to.deep.equal(given);
            }),
        );
    });

    it("make no object where an array would have to be", () => {
        fc.assert(
            fc.property(content, path, (given, at) => {
                const holders = at.map((_, depth) => valueAt(given, at.slice(0, depth)));
                const isMissing = (holder: unknown): boolean => typeof holder !== "object" || holder === null;
                const gone = at.some((name, depth) => /^\d$/.test(name) && isMissing(holders[depth]));
                if (gone) expect(placed(given, at, 1)).to.deep.equal(given);
            }),
        );
        expect(placed({}, ["items", "0", "url"], 1)).to.deep.equal({});
        expect(placed({ items: {} }, ["items", "0", "url"], 1)).to.deep.equal({ items: { 0: { url: 1 } } });
    });

    it("know the innermost array that they lead through", () => {
        const items = [{ url: "a", parts: [{ url: "b" }] }];
        expect(galleryOf({ items }, ["items", "0", "url"])).to.deep.equal({ items, below: ["url"] });
        expect(galleryOf({ items }, ["items", "0", "parts", "0", "url"])).to.deep.equal({
            items: items[0]?.parts,
            below: ["url"],
        });
        expect(galleryOf({ items }, ["items", "0"])).to.deep.equal({ items, below: [] });
        expect(galleryOf({ items }, ["url"])).to.equal(undefined);
    });
});
