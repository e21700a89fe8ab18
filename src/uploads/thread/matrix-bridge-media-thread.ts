import { parentPort, workerData } from "node:worker_threads";
import { MediaError } from "../../errors.ts";
import type { Logger } from "../../logger.ts";
import type { Access } from "../../matrix/client.ts";
import { Unrepeated } from "../../matrix/unrepeated.ts";
import { RightOfWay } from "../../right-of-way.ts";
import { addressPolicy } from "../sources/address-guard.ts";
import { ConnectorSource } from "../sources/connector.ts";
import { FileSource } from "../sources/file.ts";
import { HttpSource } from "../sources/http.ts";
import { Spool } from "../sources/spool.ts";
import { HomeserverTarget } from "../targets/homeserver.ts";
import { transfer } from "../transfer.ts";
import type { FromThread, ThreadSettings, ToThread } from "./messages.ts";
import { fromWire, toWire } from "./wire-error.ts";

/** Where the thread begins: it transfers what it is given, one attempt beside the other, and remembers nothing of them. */

/** How often an attempt's progress is told, at most. */
const PROGRESS_MS = 100;

if (parentPort === null) throw new MediaError("INTERNAL", { detail: "not a thread" });
const port = parentPort;
const { spool: share, allowPrivateAddresses, timeLimits: limits } = workerData as ThreadSettings;
const spool = Spool.of(share);
const parts = {
    sources: {
        http: new HttpSource(addressPolicy(allowPrivateAddresses), limits),
        file: new FileSource(),
        // Connectors are the bridge's own functions and stay in its thread, as does what was opened ahead.
        connector: new ConnectorSource({}, limits),
        spool,
    },
    opened: { take: () => undefined },
    spool,
    limits,
    logger: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
    // Nobody sends messages from here.
    way: new RightOfWay(),
};

/** What the homeserver gave on this thread's connections. */
const uris = new Unrepeated();

interface UnderWay {
    readonly controller: AbortController;
    /** Settle what the attempt has asked for. */
    onAccess: (access: Access) => void;
    onNoAccess: (error: Error) => void;
}
const underWay = new Map<number, UnderWay>();

port.on("message", (message: ToThread) => {
    if (message.type === "begin") return void run(message);
    const attempt = underWay.get(message.id);
    if (message.type === "abort") attempt?.controller.abort(fromWire(message.reason));
    else if (message.type === "access") attempt?.onAccess(message.access);
    else attempt?.onNoAccess(fromWire(message.error));
});
tell({ type: "ready" });

async function run({ id, job, maxBytes }: Extract<ToThread, { type: "begin" }>): Promise<void> {
    const controller = new AbortController();
    const attempt: UnderWay = { controller, onAccess: () => {}, onNoAccess: () => {} };
    underWay.set(id, attempt);
    const access = (): Promise<Access> =>
        new Promise((resolve, reject) => {
            Object.assign(attempt, { onAccess: resolve, onNoAccess: reject });
            tell({ type: "access", id });
        });
    const target = new HomeserverTarget({ get: () => ({ access }) }, limits, uris);
    const watch = {
        onBytes: progressOf(id),
        // Only connectors find a file elsewhere.
        onRefreshed: () => Promise.resolve(),
    };
    try {
        const transferred = await transfer({ job, maxBytes, signal: controller.signal, watch }, { ...parts, target });
        tell({ type: "done", id, transferred });
    } catch (error) {
        tell({ type: "failed", id, error: toWire(error) });
    } finally {
        underWay.delete(id);
    }
}

function progressOf(id: number): (total: number) => void {
    let next = 0;
    return (total) => {
        const now = performance.now();
        if (now < next) return;
        next = now + PROGRESS_MS;
        tell({ type: "bytes", id, total });
    };
}

function log(level: keyof Logger) {
    return (message: string, ...details: unknown[]): void => tell({ type: "log", level, message, details });
}

function tell(message: FromThread): void {
    port.postMessage(message);
}
