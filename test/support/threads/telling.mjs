/** A thread that tells, by the log, what it is told and that it is alive; every file is there at once. */
import { parentPort } from "node:worker_threads";

const log = (message) => parentPort.postMessage({ type: "log", level: "warn", message, details: [] }, []);
parentPort.on("message", ({ type, id }) => {
    log(type);
    const transferred = { size: 1, contentUri: "mxc://example.org/there" };
    if (type === "begin") parentPort.postMessage({ type: "done", id, transferred }, []);
});
setInterval(() => log("alive"), 5);
parentPort.postMessage({ type: "ready" }, []);
