/**
 * `node --import ./scripts/typescript.mjs FILE.ts`: TypeScript as it is written, by tsx, in worker threads too. tsx leaves
 * those to hooks that it has registered in the main thread, which Node.js 20 does not ask there. What a test has named by
 * `setEnvironmentData("preload", url)` is loaded first in each thread.
 */
import { getEnvironmentData, isMainThread } from "node:worker_threads";

if (isMainThread) await import("tsx");
else {
    (await import("tsx/esm/api")).register();
    const preload = getEnvironmentData("preload");
    if (preload !== undefined) await import(preload);
}
