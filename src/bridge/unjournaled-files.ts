import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { Store } from "../store/store.ts";
import { loadJob } from "../uploads/job-records.ts";
import type { Spool } from "../uploads/sources/spool.ts";

export interface UnjournaledFilesParts {
    readonly store: Store;
    readonly spool: Spool;
    readonly logger: Logger;
    readonly closing: AbortSignal;
}

/**
 * What was spooled for jobs whose journaling was refused. A commit whose sync failed may be on the disk all the same, and be
 * found there by the next start, until the store has taken it back; it answers again only after that. So bytes stay until it
 * has answered that their job is not there: a process that is killed before would send a message whose file is gone.
 */
export class UnjournaledFiles {
    readonly #parts: UnjournaledFilesParts;
    readonly #names = new Set<string>();
    #working = false;

    constructor(parts: UnjournaledFilesParts) {
        this.#parts = parts;
    }

    /** Resolves when they are gone, or are to go as soon as it can be said that nobody needs them. Never rejects. */
    async discard(names: readonly string[]): Promise<void> {
        for (const name of names) this.#names.add(name);
        if (!(await this.#tryAll())) void this.#goOn();
    }

    /** What is left when the component closes is removed, or needed, at the next start. */
    async #goOn(): Promise<void> {
        if (this.#working) return;
        this.#working = true;
        const { closing: signal } = this.#parts;
        do await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
        while (!signal.aborted && !(await this.#tryAll()));
        this.#working = false;
    }

    /** Resolves with whether none is left. One that cannot be removed holds up none of the others. */
    async #tryAll(): Promise<boolean> {
        const { store, spool, logger } = this.#parts;
        const stays = (error: unknown): void =>
            logger.debug("A spooled file of a refused message stays for now", { error: loggable(error) });
        for (const name of this.#names) {
            try {
                if ((await loadJob(store, name)) !== undefined) this.#names.delete(name);
            } catch (error) {
                // The journal answers for none of them.
                stays(error);
                return false;
            }
            if (this.#names.has(name)) await spool.remove(name).then(() => this.#names.delete(name), stays);
        }
        return this.#names.size === 0;
    }
}

const RETRY_MS = 1000;
