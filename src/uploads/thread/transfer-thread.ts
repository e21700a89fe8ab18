import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { MediaError } from "../../errors.ts";
import type { Logger } from "../../logger.ts";
import type { Access } from "../../matrix/client.ts";
import { type Attempt, COPY_SUFFIX, type Transferred } from "../transfer.ts";
import type { FromThread, ThreadSettings, ToThread } from "./messages.ts";
import { fromWire, toWire } from "./wire-error.ts";

/**
 * A thread that large files pass through. Bytes that pass through a process are garbage to V8, and for each dozen MB of
 * them it collects the whole heap of their thread, 4 to 16 ms in a bridge's: a message that comes meanwhile waits. Here
 * that heap is next to empty and nobody waits, and a second processor can take a share.
 *
 * The thread does what `transfer()` does and nothing else; the queue, the journal and every decision stay with the
 * caller. It starts with the first file and stays. Where none can be started, `here` does the work. When it dies, the attempts
 * that it had reject with UPLOAD_INTERRUPTED, as they would if their connections had broken, and the next one starts another.
 */
export interface ThreadParts {
    readonly settings: ThreadSettings;
    readonly logger: Logger;
    /** Does an attempt in this thread. */
    readonly here: (attempt: Attempt) => Promise<Transferred>;
    /** Removes what a thread that has died left in the spool. */
    readonly discard: (spoolName: string) => Promise<void>;
    /** The module that the thread begins with. @default this package's */
    readonly entry?: URL;
}

interface Given {
    readonly attempt: Attempt;
    readonly resolve: (transferred: Transferred) => void;
    readonly reject: (error: Error) => void;
}

/** The same kind of file as this one: as it was written, or compiled. */
const ENTRY = new URL(`entry${extname(new URL(import.meta.url).pathname)}`, import.meta.url);
/**
 * Nothing there lives longer than a piece of a file, so that a larger heap would hold garbage alone: with V8's own limits eight
 * files at once took 35 MB more, and came no sooner. What a file's bytes lie in does not count as heap.
 */
const LIMITS = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 128 };
/** A thread that does not listen by then is given up. */
const START_MS = 30_000;

export class TransferThread {
    readonly #parts: ThreadParts;
    readonly #given = new Map<number, Given>();
    /** Undefined before the first file, and after a thread has died; resolves with undefined where none can be started. */
    #worker: Promise<Worker | undefined> | undefined;
    #attempts = 0;

    constructor(parts: ThreadParts) {
        this.#parts = parts;
    }

    /** @param access How to reach the homeserver as the job's uploader. Rejects with a MediaError. */
    async transfer(attempt: Attempt, access: () => Access): Promise<Transferred> {
        this.#worker ??= this.#start();
        const worker = await this.#worker;
        if (worker === undefined) return this.#parts.here(attempt);
        const { job, maxBytes, signal } = attempt;
        signal.throwIfAborted();
        const id = this.#attempts++;
        const begin = { type: "begin", id, job, maxBytes, access: access() } as const;
        const onAbort = (): void => post(worker, { type: "abort", id, reason: toWire(signal.reason) });
        try {
            return await new Promise<Transferred>((resolve, reject) => {
                post(worker, begin);
                this.#given.set(id, { attempt, resolve, reject });
                worker.ref();
                signal.addEventListener("abort", onAbort);
            });
        } finally {
            signal.removeEventListener("abort", onAbort);
            // No longer there when the thread has died, which then may have left a copy of the source.
            if (!this.#given.delete(id)) await this.#discard(job.id + COPY_SUFFIX);
            if (this.#given.size === 0) worker.unref();
        }
    }

    /** Ends the thread. To be called when no attempt is under way. */
    async close(): Promise<void> {
        await (await this.#worker)?.terminate();
    }

    /** Never rejects. */
    #start(): Promise<Worker | undefined> {
        return new Promise((resolve) => {
            const giveUp = (error: unknown): void => {
                this.#parts.logger.warn("No thread could be started: large files go through the bridge's own", {
                    error,
                });
                resolve(undefined);
            };
            let worker: Worker;
            try {
                const { entry = ENTRY, settings } = this.#parts;
                worker = new Worker(entry, {
                    name: "matrix-bridge-media",
                    workerData: settings,
                    resourceLimits: LIMITS,
                });
            } catch (error) {
                return giveUp(error);
            }
            let state: "starting" | "ready" | "lost" = "starting";
            // Told twice of a thread that has failed: of its error, and of its end, when there may be another one.
            const lost = (error?: unknown): void => {
                clearTimeout(timer);
                if (state === "ready") this.#lost(error);
                else if (state === "starting") giveUp(error);
                state = "lost";
            };
            const timer = setTimeout(() => {
                lost(new MediaError("INTERNAL", { detail: `the thread did not listen within ${START_MS} ms` }));
                void worker.terminate();
            }, START_MS);
            worker.on("message", (message: FromThread) => {
                if (message.type !== "ready") return this.#heard(message);
                if (state === "lost") return;
                clearTimeout(timer);
                state = "ready";
                // From here on it holds the process only while it has work.
                worker.unref();
                resolve(worker);
            });
            worker.on("error", lost);
            worker.once("exit", () => lost());
        });
    }

    #heard(message: Exclude<FromThread, { type: "ready" }>): void {
        if (message.type === "log") return this.#parts.logger[message.level](message.message, ...message.details);
        const given = this.#given.get(message.id);
        if (message.type === "bytes") given?.attempt.watch.onBytes(message.total);
        else if (message.type === "done") given?.resolve(message.transferred);
        else given?.reject(fromWire(message.error));
    }

    #lost(cause: unknown): void {
        this.#worker = undefined;
        const given = [...this.#given.values()];
        this.#given.clear();
        const details = { detail: "its thread has ended", cause, ambiguous: true };
        for (const { reject } of given) reject(new MediaError("UPLOAD_INTERRUPTED", details));
    }

    async #discard(spoolName: string): Promise<void> {
        try {
            await this.#parts.discard(spoolName);
        } catch (error) {
            this.#parts.logger.warn("A copy in the spool could not be removed", { error });
        }
    }
}

function post(worker: Worker, message: ToThread): void {
    worker.postMessage(message, []);
}
