/**
 * A thread for transfers that dies of a file, with a secret on its lips; those called *waiting* it keeps, and says that
 * they are there before it dies of another one.
 */
import { parentPort } from "node:worker_threads";

const waiting = [];
parentPort.on("message", ({ type, id, job }) => {
    if (type !== "begin") return;
    if (job.id.startsWith("waiting")) return void waiting.push(id);
    const transferred = { size: 1, contentUri: "mxc://example.org/there" };
    for (const id of waiting) parentPort.postMessage({ type: "done", id, transferred }, []);
    throw new TypeError("no way to https://s3.example.org/a/b?X-Amz-Signature=c4n4ry");
});
parentPort.postMessage({ type: "ready" }, []);
