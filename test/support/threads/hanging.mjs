/** A thread that never comes back from its first file; it says so before. */
import { parentPort } from "node:worker_threads";

parentPort.on("message", () => {
    parentPort.postMessage({ type: "log", level: "warn", message: "hangs", details: [] }, []);
    for (;;);
});
parentPort.postMessage({ type: "ready" }, []);
