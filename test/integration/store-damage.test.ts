import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { LevelStore } from "../../src/store/level.ts";
import type { Damage } from "../../src/store/store.ts";
import { checkTable } from "../../src/store/table-check.ts";

const RECORDS = 400;

describe("the store notices", () => {
    let directory: string;
    let journal: string;
    let damages: Damage[];
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "store-damage-"));
        journal = join(directory, "journal");
        damages = [];
    });
    afterEach(async () => {
        await rm(directory, { recursive: true, force: true });
    });

    async function open(): Promise<LevelStore> {
        const store = new LevelStore(journal);
        await store.open((damage) => damages.push(damage));
        return store;
    }

    async function fill(from = 0): Promise<void> {
        const store = await open();
        for (let index = from; index < from + RECORDS; index++) {
            const key = String(index).padStart(5, "0");
            await store.commit([{ collection: "things", key, record: { key, filler: `${Math.random()}`.repeat(5) } }]);
        }
        await store.close();
    }

    async function count(): Promise<number> {
        const store = await open();
        let found = 0;
        for await (const [key, record] of store.range({ collection: "things" })) {
            expect(record["key"]).to.equal(key);
            found++;
        }
        await store.close();
        return found;
    }

    async function file(pattern: RegExp): Promise<string> {
        const name = (await readdir(journal)).find((one) => pattern.test(one));
        if (name === undefined) throw new Error(`no ${pattern}`);
        return join(journal, name);
    }

    const findings = (): string => damages.map(({ finding }) => finding).join("; ");

    it("nothing after a sound end, and after one that was only killed", async () => {
        await fill();
        await rm(join(journal, "LOCK"));
        expect(await count()).to.equal(RECORDS);
        await fill(RECORDS);
        expect(await count()).to.equal(2 * RECORDS);
        expect(damages).to.deep.equal([]);
    });

    it("how many writes a log lacks at its end, once", async () => {
        await fill();
        const log = await file(/\.log$/);
        await truncate(log, Math.floor((await stat(log)).size / 2));
        const found = await count();
        expect(found).to.be.within(1, RECORDS - 1);
        expect(findings()).to.equal(`its last ${RECORDS - found} writes are missing`);
        damages = [];
        expect(await count()).to.equal(found);
        expect(damages).to.deep.equal([]);
    });

    it("how many it lacks in its middle", async () => {
        await fill();
        const log = await file(/\.log$/);
        const bytes = await readFile(log);
        bytes.fill(0, 40_000, 41_000);
        await writeFile(log, bytes);
        const found = await count();
        expect(findings()).to.contain(`${RECORDS - found} of the ${RECORDS} writes before are missing`);
    });

    it("a garbled block of a table, and reads all others", async () => {
        await fill();
        await (await open()).close();
        const table = await file(/\.ldb$/);
        const bytes = await readFile(table);
        const middle = Math.floor(bytes.length / 2);
        bytes.fill(7, middle, middle + 10);
        await writeFile(table, bytes);
        const found = await count();
        expect(found).to.be.within(RECORDS - 60, RECORDS - 1);
        expect(findings()).to.match(
            /^opened after a repair, records may be missing: \d+\.ldb: 1 of \d+ blocks damaged/,
        );
        expect(await readdir(damages[0]?.copy ?? "")).to.include(table.slice(journal.length + 1));
    });

    it("each bit of a table that is not as it was written", async () => {
        await fill();
        await (await open()).close();
        const table = await readFile(await file(/\.ldb$/));
        expect(checkTable(table)).to.equal(undefined);
        // The footer's padding says nothing, and without its magic it is left to LevelDB.
        for (let at = 0; at < table.length - 48; at += 13) {
            const garbled = Buffer.from(table);
            garbled[at] = (garbled[at] ?? 0) ^ (1 << (at % 8));
            const damage = checkTable(garbled);
            expect(damage, `byte ${at} of ${table.length}`).not.to.equal(undefined);
            if (damage?.mended !== undefined) expect(checkTable(damage.mended)).to.equal(undefined);
        }
    });

    it("a CURRENT that is missing: the tables are not taken for rubbish", async () => {
        await fill();
        await (await open()).close();
        await rm(join(journal, "CURRENT"));
        expect(await count()).to.equal(RECORDS);
        expect(findings()).to.contain("CURRENT is missing");
    });

    it("a table that was cut: what else there is goes on", async () => {
        await fill();
        await fill(RECORDS);
        await (await open()).close();
        await truncate(await file(/\.ldb$/), 5000);
        const store = await open();
        await store.commit([{ collection: "things", key: "99999", record: { key: "99999" } }]);
        await store.close();
        expect(await count()).to.be.within(1, RECORDS + 1);
        expect(findings()).to.contain("opened after a repair");
    });

    it("that its COUNT is gone or garbled", async () => {
        await fill();
        await rm(join(journal, "COUNT"));
        expect(await count()).to.equal(RECORDS);
        expect(findings()).to.contain("COUNT cannot be read");
        damages = [];
        await writeFile(join(journal, "COUNT"), "0000000000000001 00000000\n");
        expect(await count()).to.equal(RECORDS);
        expect(findings()).to.contain("COUNT cannot be read");
    });
});
