import PQueue from "p-queue";
import { asMediaError } from "../../errors.ts";
import { LinkedAbort } from "../../linked-abort.ts";
import type { Logger } from "../../logger.ts";
import type { ActingUsers } from "../../matrix/client.ts";
import { hasContent } from "../../matrix/download-probe.ts";
import type { Store, Write } from "../../store/store.ts";
import type { KnownFiles } from "./known-files.ts";
import type { SharedFile } from "./shared-file.ts";

/**
 * Finds files that need no transfer any more. A homeserver may have lost one meanwhile (its media was purged, its
 * administrator quarantined it), so one that was not looked at for `checkMs` is asked for once before it is used
 * again, by one request for all who want it. What the homeserver says in trouble is no answer: the file is used as it
 * is, for a send must not depend on a probe.
 */
export interface LookupParts {
    readonly store: Store;
    readonly users: ActingUsers;
    readonly files: KnownFiles;
    readonly logger: Logger;
    readonly checkMs: number;
    readonly keepMs: number;
    /** Aborts when the component closes. */
    readonly closing: AbortSignal;
}

/** A send waits for it. */
const PROBE_MS = 5000;
const MAX_PROBES = 8;
/** After a probe without an answer the next one comes so much later. */
const NEXT_PROBE_MS = 60_000;
/** A use is journaled when the last journaled one is older than this part of `keepMs`: not at every send. */
const USED_PRECISION = 1 / 32;

export class Lookup {
    readonly #parts: LookupParts;
    readonly #probes = new PQueue({ concurrency: MAX_PROBES });
    readonly #probing = new Map<string, Promise<SharedFile | undefined>>();

    constructor(parts: LookupParts) {
        this.#parts = parts;
    }

    /** The same as `uploaded()` where memory knows it and nothing has to be asked. Synchronous. */
    atHand(key: string): SharedFile | undefined {
        const file = this.#parts.files.peek(key);
        return file?.state === "uploaded" && this.#isFresh(file) ? file : undefined;
    }

    /** The file, where it is there already. */
    async uploaded(key: string): Promise<SharedFile | undefined> {
        const file = await this.#parts.files.load(key);
        if (file === undefined || file.state !== "uploaded") return undefined;
        if (this.#isFresh(file)) return file;
        const underWay = this.#probing.get(key) ?? this.#probes.add(() => this.#check(file));
        this.#probing.set(key, underWay);
        return underWay.finally(() => this.#probing.delete(key));
    }

    /** The writes that note a use; to be committed with what uses it. */
    useWrites(found: SharedFile): Write[] {
        const { files, keepMs } = this.#parts;
        const usedAt = Date.now();
        const isNoted = (file: SharedFile): boolean => usedAt - file.usedAt < keepMs * USED_PRECISION;
        // As it was found it may be older than it is, and never newer.
        if (isNoted(found)) return [];
        const file = files.peek(found.key);
        return file === undefined || isNoted(file) ? [] : files.set(found.key, { ...file, usedAt });
    }

    #isFresh({ checkedAt }: SharedFile): boolean {
        const age = Date.now() - checkedAt;
        // In the future: the clock was set back since.
        return age >= 0 && age < this.#parts.checkMs;
    }

    async #check(file: SharedFile): Promise<SharedFile | undefined> {
        const { files, store, logger, checkMs } = this.#parts;
        const { key, contentUri } = file;
        const found = await this.#probe(file);
        // Only what was asked about: another transfer may have put a new one in its place.
        const now = files.peek(key);
        if (now?.contentUri !== contentUri) return now?.state === "uploaded" ? now : undefined;
        if (found === "lost") {
            logger.warn("The homeserver has lost a file that was shared: it is uploaded anew", { contentUri });
            await store.commit(files.set(key, undefined));
            return undefined;
        }
        const time = Date.now();
        const checkedAt = found === "there" ? time : time - checkMs + Math.min(NEXT_PROBE_MS, checkMs);
        const checked = { ...file, usedAt: now.usedAt, checkedAt };
        const writes = files.set(key, checked);
        if (found === "there") await store.commit(writes);
        return checked;
    }

    async #probe({ uploader, contentUri, size }: SharedFile): Promise<"there" | "lost" | "unknown"> {
        const abort = new LinkedAbort([this.#parts.closing], {
            ms: PROBE_MS,
            reason: () => new Error("no answer in time"),
        });
        try {
            const access = this.#parts.users.get(uploader).access();
            // 504, not uploaded yet: no upload of ours is pending, or its record would say so.
            return (await hasContent(access, contentUri, { size }, abort.signal)) ? "there" : "lost";
        } catch (thrown) {
            const error = asMediaError(thrown);
            if (error.code === "RESERVATION_GONE") return "lost";
            this.#parts.logger.debug("A shared file could not be looked at", { contentUri, code: error.code });
            return "unknown";
        } finally {
            abort.release();
        }
    }
}
