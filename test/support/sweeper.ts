import { join } from "node:path";
import { Sweeper } from "../../src/bridge/sweeper.ts";
import { silentLogger } from "../../src/logger.ts";
import type { Store } from "../../src/store/store.ts";
import { KeyedLocks } from "../../src/uploads/keyed-locks.ts";
import { Spool } from "../../src/uploads/sources/spool.ts";

/** A sweeper of a journal that nobody else works with, or nobody who is at what it forgets. */
export function sweeperOf(store: Store, dataDir: string, keepResultsMs = 60_000): Sweeper {
    const spool = new Spool(join(dataDir, "spool"), 1000);
    const locks = { messageLocks: new KeyedLocks(), jobLocks: new KeyedLocks() };
    return new Sweeper({ store, spool, logger: silentLogger, keepResultsMs, ...locks });
}
