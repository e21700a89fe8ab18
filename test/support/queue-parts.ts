import { MediaError } from "../../src/errors.ts";
import { silentLogger } from "../../src/logger.ts";
import { KeyedLocks } from "../../src/uploads/keyed-locks.ts";
import type { UploadQueueParts } from "../../src/uploads/queue.ts";
import { SourceGate } from "../../src/uploads/source-gate.ts";

/** What a queue by itself has around it: nobody shares a file, nothing is encrypted, no address is replaced. */
export function queueParts(): Omit<UploadQueueParts, "store" | "concurrency" | "transfer"> {
    return {
        logger: silentLogger,
        smallFileConcurrency: 0,
        maxAttempts: 3,
        gate: new SourceGate({}),
        locks: new KeyedLocks(),
        openAhead: () => () => {},
        complete: async () => "mxc://a/b",
        renew: async () => undefined,
        prepare: () => Promise.reject(new MediaError("INTERNAL")),
        beforeBegin: async (job) => job,
        handOver: async () => false,
        alongside: () => [],
        onChange: () => {},
    };
}
