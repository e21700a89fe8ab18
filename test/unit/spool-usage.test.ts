import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect } from "chai";
import type { MediaError } from "../../src/errors.ts";
import { Spool } from "../../src/uploads/sources/spool.ts";

describe("a spool that threads share", () => {
    let directory = "";
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "spool-"));
    });
    afterEach(() => rm(directory, { recursive: true, force: true }));

    it("holds no more than its limit in all, and what a dead thread left is counted out", async () => {
        const here = new Spool(directory, 1000);
        const there = Spool.of(structuredClone(here.share));
        await there.write("a.copy", Readable.from([Buffer.alloc(600)]));
        expect(here.usedBytes).to.equal(600);
        const refused = await here.write("b", Readable.from([Buffer.alloc(600)])).catch((error: MediaError) => error);
        expect(refused).to.include({ code: "SPOOL_FULL" });
        await here.clearOther(["a.copy", "never-there.copy"]);
        expect(await readdir(directory)).to.deep.equal([]);
        expect([here.usedBytes, there.usedBytes]).to.deep.equal([0, 0]);
        await here.write("b", Readable.from([Buffer.alloc(600)]));
        await here.clearOther([]);
        expect(here.usedBytes).to.equal(600);
    });

    it("counts a file anew that is written over one which could not be removed", async () => {
        const spool = new Spool(directory, 1000);
        expect(await spool.write("a.copy", Readable.from([Buffer.alloc(600)]))).to.equal(600);
        expect(await spool.write("a.copy", Readable.from([Buffer.alloc(700)]))).to.equal(700);
        expect(spool.usedBytes).to.equal(700);
    });
});
