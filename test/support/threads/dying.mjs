/** A thread for transfers that dies of its first file. */
import { parentPort } from "node:worker_threads";

parentPort.on("message", () => process.exit(3));
parentPort.postMessage({ type: "ready" }, []);
