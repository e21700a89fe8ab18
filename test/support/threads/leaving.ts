import { silentLogger } from "../../../src/logger.ts";
import { Spool } from "../../../src/uploads/sources/spool.ts";
import { TransferThread } from "../../../src/uploads/thread/transfer-thread.ts";
import { someJob } from "../job.ts";

/** A process that has had a file transferred by a thread, closes nothing, and has nothing else to do. */
const thread = new TransferThread({
    settings: {
        spool: new Spool("nowhere", 1).share,
        allowPrivateAddresses: true,
        timeLimits: { connectMs: 1, headersMs: 1, idleMs: 1, totalMs: 1 },
    },
    logger: silentLogger,
    here: () => Promise.reject(new Error("not in the thread")),
    clearSpool: () => Promise.resolve(),
    entry: new URL("telling.mjs", import.meta.url),
});
const { contentUri } = await thread.transfer(
    {
        job: someJob({ state: "transferring", source: { kind: "file", path: "/nowhere" } }),
        maxBytes: 1,
        signal: new AbortController().signal,
        watch: { onBytes: () => {}, onRefreshed: () => Promise.resolve() },
    },
    () => ({ homeserverUrl: "http://127.0.0.1:9", accessToken: "t", userId: "@alice:example.org" }),
);
console.log(contentUri);
