import { presignedCases } from "../support/presigned-cases.ts";
import type { S3 } from "../support/storage.ts";
import { startSeaweedfs } from "./seaweedfs.ts";

describe("presigned uploads into SeaweedFS", function () {
    this.timeout(120_000);
    let seaweedfs: S3;
    before(async function () {
        // The first run installs it.
        this.timeout(600_000);
        seaweedfs = await startSeaweedfs();
    });
    after(() => seaweedfs?.close());

    // One for all cases; each has keys of its own.
    presignedCases(async () => ({ ...seaweedfs, close: async () => {} }));
});
