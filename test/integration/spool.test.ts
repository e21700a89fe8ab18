import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { MediaError } from "../../src/errors.ts";
import { Spool } from "../../src/uploads/sources/spool.ts";

describe("the spool", () => {
    let directory: string;
    beforeEach(async () => {
        directory = await mkdtemp(join(tmpdir(), "spool-"));
    });
    afterEach(async () => {
        await rm(directory, { recursive: true, force: true });
    });

    async function errorOf(name: string): Promise<MediaError> {
        const spool = new Spool(directory, 1000);
        try {
            await spool.open({ kind: "spool", name }, new AbortController().signal);
        } catch (error) {
            if (error instanceof MediaError) return error;
        }
        throw new Error("it was opened");
    }

    it("says that a file is gone only where there is none: what cannot be looked at now is tried again", async () => {
        expect(await errorOf("none")).to.include({ code: "SPOOL_MISSING", retryable: false });
        // The one trouble of a disk that root meets, too.
        await symlink("loop", join(directory, "loop"));
        expect(await errorOf("loop")).to.include({ code: "SPOOL_FAILED", retryable: true });
    });
});
