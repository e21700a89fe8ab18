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

const RETRY_MS = 1000;

/**
 * What was spooled for jobs whose journaling was refused. A commit whose sync failed may be on the disk all the same, and be
 * found there by the next start, until the store has taken it back; it answers again only after that. So bytes stay until it
 * has answered that their job is not there: a process that is killed before would send a message whose file is gone. Only where
 * the disk is full they go at once: what did not fit into the journal is not there, and their room may be all that it lacks.
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
        const { spool } = this.#parts;
        for (const name of this.#names) {
            const isNeeded = await this.#isJournaled(name);
            // On a full disk they would keep the journal from ever answering: it needs room to be opened again.
            if (isNeeded === undefined && (await spool.hasRoom())) return false;
            if (isNeeded === true) this.#names.delete(name);
            else await spool.remove(name).then(() => this.#names.delete(name), this.#stays);
        }
        return this.#names.size === 0;
    }

    /** Undefined while the journal does not answer. */
    async #isJournaled(name: string): Promise<boolean | undefined> {
        try {
            return (await loadJob(this.#parts.store, name)) !== undefined;
        } catch (error) {
            return this.#stays(error);
        }
    }

    readonly #stays = (error: unknown): undefined => {
        this.#parts.logger.debug("A spooled file of a refused message stays for now", { error: loggable(error) });
    };
}
