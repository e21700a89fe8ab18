import { MediaError } from "../../errors.ts";
import { unlessAborted } from "../../linked-abort.ts";
import type { Logger } from "../../logger.ts";
import type { Access } from "../../matrix/client.ts";
import { loggable } from "../../redact.ts";
import { type Attempt, COPY_SUFFIX, type Transferred } from "../transfer.ts";
import type { FromThread, ThreadSettings } from "./messages.ts";
import { ThreadLife } from "./thread-life.ts";
import { fromWire, toWire } from "./wire-error.ts";

/**
 * A thread that large files pass through. Bytes that pass through a process are garbage to V8, and for each dozen MB of
 * them it collects the whole heap of their thread, 4 to 16 ms in a bridge's: a message that comes meanwhile waits. Here
 * that heap is next to empty and nobody waits, and a second processor can take a share.
 *
 * The thread does what `transfer()` does and nothing else; the queue, the journal and every decision stay with the
 * caller. It starts when the first file is expected, and stays. Where none can be started, `here` does the work. When it
 * dies, the attempts that it had reject with UPLOAD_INTERRUPTED, as they would if their connections had broken, and the
 * next one starts another; after `MAX_DEATHS` of them `here` does the work as well.
 */
export interface ThreadParts {
    readonly settings: ThreadSettings;
    readonly logger: Logger;
    /** Does an attempt in this thread. */
    readonly here: (attempt: Attempt) => Promise<Transferred>;
    /** Removes what a thread that has died left in the spool. Called at once after its end. */
    readonly clearSpool: (names: readonly string[]) => Promise<void>;
    /** The module that the thread begins with. @default this package's */
    readonly entry?: URL;
    /** A thread that has not let go of an attempt so long after its abort hangs, and is ended; milliseconds. @default 10 s */
    readonly letGoMs?: number;
}

interface Given {
    readonly attempt: Attempt;
    readonly access: () => Access;
    readonly resolve: (transferred: Transferred) => void;
    readonly reject: (error: Error) => void;
}

/** A file that makes every thread die costs the others so many of their tries at most. */
const MAX_DEATHS = 3;
const LET_GO_MS = 10_000;

export class TransferThread {
    readonly #parts: ThreadParts;
    readonly #given = new Map<number, Given>();
    /** Undefined before the first file, and after a thread has died. */
    #life: ThreadLife | undefined;
    #deaths = 0;
    #isGivenUp = false;
    #isClosed = false;
    #attempts = 0;

    constructor(parts: ThreadParts) {
        this.#parts = parts;
    }

    /** @param access How to reach the homeserver as the job's uploader; asked just before its use. Rejects with a MediaError. */
    async transfer(attempt: Attempt, access: () => Access): Promise<Transferred> {
        const { job, maxBytes, signal } = attempt;
        const life = await this.#listening(signal);
        if (life === undefined) return this.#parts.here(attempt);
        signal.throwIfAborted();
        const id = this.#attempts++;
        let patience: NodeJS.Timeout | undefined;
        const onAbort = (): void => {
            patience = setTimeout(() => void life.terminate(), this.#parts.letGoMs ?? LET_GO_MS);
            life.post({ type: "abort", id, reason: toWire(signal.reason) });
        };
        try {
            return await new Promise<Transferred>((resolve, reject) => {
                life.post({ type: "begin", id, job, maxBytes });
                this.#given.set(id, { attempt, access, resolve, reject });
                life.hold(true);
                signal.addEventListener("abort", onAbort);
            });
        } catch (error) {
            // Also where the thread died of it, or just then.
            throw signal.aborted ? signal.reason : error;
        } finally {
            clearTimeout(patience);
            signal.removeEventListener("abort", onAbort);
            this.#given.delete(id);
            if (this.#given.size === 0) life.hold(false);
        }
    }

    /** A file for it will come: it starts beside that one's message, while no byte waits for it. */
    expect(): void {
        if (!this.#isGivenUp && !this.#isClosed) this.#started();
    }

    /** Ends the thread. To be called when no attempt is under way. */
    async close(): Promise<void> {
        this.#isClosed = true;
        await this.#life?.terminate();
    }

    /** Undefined where there is none to be had. Rejects when the signal aborts. */
    async #listening(signal: AbortSignal): Promise<ThreadLife | undefined> {
        if (this.#isGivenUp) return undefined;
        const life = this.#started();
        try {
            await unlessAborted(life.ready, [signal]);
            return life;
        } catch (error) {
            signal.throwIfAborted();
            this.#giveUp("No thread could be started", error);
            return undefined;
        }
    }

    #started(): ThreadLife {
        const { settings, entry } = this.#parts;
        this.#life ??= new ThreadLife({
            settings,
            entry,
            onMessage: (message) => this.#heard(message),
            onEnd: (cause) => void this.#lost(cause),
        });
        return this.#life;
    }

    #heard(message: Exclude<FromThread, { type: "ready" }>): void {
        if (message.type === "log") return this.#parts.logger[message.level](message.message, ...message.details);
        const given = this.#given.get(message.id);
        if (message.type === "bytes") given?.attempt.watch.onBytes(message.total);
        else if (message.type === "done") given?.resolve(message.transferred);
        else if (message.type === "failed") given?.reject(fromWire(message.error));
        else if (given !== undefined) this.#tellAccess(message.id, given);
    }

    #tellAccess(id: number, { access }: Given): void {
        try {
            this.#life?.post({ type: "access", id, access: access() });
        } catch (error) {
            this.#life?.post({ type: "no-access", id, error: toWire(error) });
        }
    }

    async #lost(cause: unknown): Promise<void> {
        this.#life = undefined;
        const given = [...this.#given.values()];
        this.#given.clear();
        if (this.#isClosed) return;
        const why = loggable(cause);
        this.#parts.logger.error("The thread of large files has ended", { error: why, files: given.length });
        if (++this.#deaths === MAX_DEATHS)
            this.#giveUp(`The thread of large files has ended ${MAX_DEATHS} times`, cause);
        try {
            await this.#parts.clearSpool(given.map(({ attempt }) => attempt.job.id + COPY_SUFFIX));
        } catch (error) {
            this.#parts.logger.warn("Copies in the spool could not be removed", { error: loggable(error) });
        }
        const details = { detail: "its thread has ended", cause: new Error(why.message), ambiguous: true };
        for (const { reject } of given) reject(new MediaError("UPLOAD_INTERRUPTED", details));
    }

    #giveUp(what: string, cause: unknown): void {
        if (this.#isGivenUp) return;
        this.#isGivenUp = true;
        this.#life = undefined;
        this.#parts.logger.warn(`${what}: large files go through the bridge's own`, { error: loggable(cause) });
    }
}
