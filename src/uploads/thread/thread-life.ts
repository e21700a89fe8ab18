import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { MediaError } from "../../errors.ts";
import type { FromThread, ThreadSettings, ToThread } from "./messages.ts";

/** One worker thread, from its start to its end. */
export interface ThreadLifeParts {
    readonly settings: ThreadSettings;
    /** The module that it begins with. @default this package's */
    readonly entry: URL | undefined;
    readonly onMessage: (message: Exclude<FromThread, { type: "ready" }>) => void;
    /** Told once, of one that has listened, when nothing more comes of it. `cause`: why, where that is known. */
    readonly onEnd: (cause: unknown) => void;
}

/**
 * Nothing there lives longer than a piece of a file, so that a larger heap would hold garbage alone: with V8's own limits eight
 * files at once took 35 MB more, and came no sooner. What a file's bytes lie in does not count as heap.
 */
const LIMITS = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 128 };
/** A thread that does not listen by then is given up. */
const START_MS = 30_000;

export class ThreadLife {
    /** Resolves when it listens; rejects where it cannot be started. */
    readonly ready: Promise<void>;
    readonly #parts: ThreadLifeParts;
    #worker: Worker | undefined;

    constructor(parts: ThreadLifeParts) {
        this.#parts = parts;
        this.ready = new Promise((resolve, reject) => this.#start(resolve, reject));
        // Also one that nobody waits for any more may fail.
        this.ready.catch(() => {});
    }

    post(message: ToThread): void {
        this.#worker?.postMessage(message, []);
    }

    /** Whether the process has to wait for it. */
    hold(isNeeded: boolean): void {
        if (isNeeded) this.#worker?.ref();
        else this.#worker?.unref();
    }

    async terminate(): Promise<void> {
        await this.#worker?.terminate();
    }

    #start(onReady: () => void, onFailure: (error: unknown) => void): void {
        // Throws where a bundler has left no address of this module: the promise then rejects.
        const worker = new Worker(this.#parts.entry ?? ownEntry(), {
            name: "matrix-bridge-media",
            workerData: this.#parts.settings,
            resourceLimits: LIMITS,
        });
        this.#worker = worker;
        let isReady = false;
        let cause: unknown;
        const timer = setTimeout(() => {
            cause = new MediaError("INTERNAL", { detail: `the thread did not listen within ${START_MS} ms` });
            void worker.terminate();
        }, START_MS);
        worker.on("message", (message: FromThread) => {
            if (message.type !== "ready") return this.#parts.onMessage(message);
            clearTimeout(timer);
            isReady = true;
            // From here on it holds the process only while it has work.
            worker.unref();
            onReady();
        });
        // Not its end yet: what it had sent before may still be on its way.
        worker.on("error", (error) => (cause = error));
        worker.once("exit", () => {
            clearTimeout(timer);
            if (isReady) this.#parts.onEnd(cause);
            else onFailure(cause ?? new MediaError("INTERNAL", { detail: "the thread ended before it listened" }));
        });
    }
}

/**
 * The same kind of file as this one: as it was written, or compiled. In a bundle it would lie beside the bundle, where a
 * file with a plainer name could be somebody else's.
 */
function ownEntry(): URL {
    const { url } = import.meta;
    return new URL(`matrix-bridge-media-thread${extname(new URL(url).pathname)}`, url);
}
