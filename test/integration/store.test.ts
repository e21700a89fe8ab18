import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Level } from "level";
import { LevelStore } from "../../src/store/level.ts";
import type { Damage } from "../../src/store/store.ts";

async function modeOf(path: string): Promise<string> {
    return ((await stat(path)).mode & 0o777).toString(8);
}

describe("the store on LevelDB", () => {
    let directory: string;
    let journal: string;
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "store-"));
        journal = join(directory, "journal");
    });
    afterEach(async () => {
        await rm(directory, { recursive: true, force: true });
    });

    async function open(damages: Damage[] = []): Promise<LevelStore> {
        const store = new LevelStore(journal);
        await store.open((damage) => damages.push(damage));
        return store;
    }

    async function filled(): Promise<void> {
        const store = await open();
        for (const key of ["one", "two", "three"]) await store.commit([{ collection: "things", key, record: { key } }]);
        await store.close();
    }

    async function all(store: LevelStore): Promise<string[]> {
        const keys: string[] = [];
        for await (const [key, record] of store.range({ collection: "things" })) {
            expect(record).to.deep.equal({ key });
            keys.push(key);
        }
        return keys;
    }

    it("touches no file before it is opened", async () => {
        const unopened = new LevelStore(journal);
        const other = new LevelStore(join(directory, "other"));
        await other.open(() => {});
        await other.close();
        await unopened.close();
        expect(await readdir(directory)).to.deep.equal(["other"]);
    });

    it("a garbled record is left out, named once, and kept in a copy; the others go on", async () => {
        await filled();
        const db = new Level(journal);
        const value = (await db.get("things\u0000two")) ?? "";
        await db.put("things\u0000two", value.replace('"two"', '"twa"'));
        await db.close();

        const damages: Damage[] = [];
        const store = await open(damages);
        expect(await all(store)).to.deep.equal(["one", "three"]);
        expect(damages).to.have.length(1);
        expect(damages[0]).to.include({ collection: "things", key: "two" });
        expect(await readFile(damages[0]?.copy ?? "", "utf8")).to.contain('\\"twa\\"');
        expect(await store.get("things", "two")).to.equal(undefined);
        expect(damages).to.have.length(1);
        await store.close();
    });

    for (const victim of ["MANIFEST-", "CURRENT"]) {
        it(`a damaged ${victim} is repaired, after a copy of all files was put aside`, async () => {
            await filled();
            const name = (await readdir(journal)).find((file) => file.startsWith(victim)) ?? "";
            await writeFile(join(journal, name), victim === "CURRENT" ? "nonsense" : Buffer.alloc(100, 7));
            const damages: Damage[] = [];
            const store = await open(damages);
            expect(damages[0]?.finding).to.contain("repair");
            expect(await readdir(damages[0]?.copy ?? "")).to.include(name);
            expect(await all(store)).to.deep.equal(["one", "three", "two"]);
            await store.close();
        });
    }

    it("refuses what a newer version wrote, and leaves it alone", async () => {
        await filled();
        const db = new Level(journal);
        const { encodeRecord } = await import("../../src/store/record-codec.ts");
        const key = "store\u0000schema";
        await db.put(key, encodeRecord(key, {}, 99));
        await db.close();
        const error = await open().catch((reason: unknown) => reason);
        expect(error).to.include({ code: "STORE_NEWER_SCHEMA" });
    });

    it("keeps its files to its own user", async () => {
        await filled();
        expect(await modeOf(journal)).to.equal("700");
    });

    it("keeps files that came while it was open so, when it is closed and also before", async function () {
        // Some seven hundred syncs.
        this.timeout(120_000);
        // LevelDB may take a file away, or add one, between two looks.
        const mode = (file: string) =>
            modeOf(join(journal, file)).catch((error: NodeJS.ErrnoException) => {
                if (error.code !== "ENOENT") throw error;
                return undefined;
            });
        const others = async () => {
            const modes = await Promise.all((await readdir(journal)).map(mode));
            return modes.filter((found) => found !== undefined && found !== "600");
        };
        const store = await open();
        const firstFiles = await readdir(journal);
        const record = { text: "x".repeat(20_000) };
        const commit = (index: number) =>
            store.commit([{ collection: "things", key: String(index % 300), record: { ...record, index } }]);
        let index = 0;
        for (; (await others()).length === 0; index++) await commit(index);
        expect(await readdir(journal), "files of its own").not.to.deep.equal(firstFiles);
        // Kept now and then.
        for (let more = 0; (await others()).length > 0; more++) {
            expect(more, "writes until then").to.be.below(1200);
            await store.commit([{ collection: "things", key: "small", record: { more } }]);
        }
        for (index = 0; (await others()).length === 0; index++) await commit(index);
        await store.close();
        expect(await others()).to.deep.equal([]);
    });

    it("keeps them so in a folder that others could enter before, and in copies of damage", async () => {
        await filled();
        await chmod(journal, 0o755);
        await writeFile(join(journal, "CURRENT"), "nonsense");
        const damages: Damage[] = [];
        await (await open(damages)).close();
        expect(await modeOf(journal)).to.equal("700");
        const copy = damages[0]?.copy ?? "";
        expect(await modeOf(copy)).to.equal("700");
        const files = await readdir(copy);
        expect(files).to.include("CURRENT");
        for (const file of files) expect(await modeOf(join(copy, file)), file).to.equal("600");
    });

    it("keeps copies of garbled records so", async () => {
        await filled();
        const db = new Level(journal);
        await db.put("things\u0000two", "garbled");
        await db.close();
        const damages: Damage[] = [];
        const store = await open(damages);
        await store.get("things", "two");
        await store.close();
        expect(await modeOf(damages[0]?.copy ?? "")).to.equal("600");
    });

    it("many commits at once keep their order and are all there after a restart", async () => {
        const store = await open();
        const commits = Array.from({ length: 500 }, (_, index) =>
            store.commit([
                { collection: "things", key: "counter", record: { key: index } },
                { collection: "log", key: `${index}`, record: {} },
            ]),
        );
        await Promise.all(commits);
        await store.close();
        const again = await open();
        expect(await again.get("things", "counter")).to.deep.equal({ key: 499 });
        let count = 0;
        for await (const _ of again.keys({ collection: "log" })) count++;
        expect(count).to.equal(500);
        await again.close();
    });
});
