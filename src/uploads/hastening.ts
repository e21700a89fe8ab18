import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { Store } from "../store/store.ts";
import type { Job } from "./job.ts";
import { loadJob } from "./job-records.ts";
import type { KeyedLocks } from "./keyed-locks.ts";
import type { JobEvent } from "./transition.ts";
import { STORE_RETRY_MS } from "./tries.ts";

export interface HasteningParts {
    readonly store: Store;
    readonly logger: Logger;
    /** Those that jobs are changed under. */
    readonly locks: KeyedLocks;
    /** False once nothing is to be begun any more. */
    readonly isOpen: () => boolean;
    /** When a job leaves its place; undefined for one that is not under way. */
    readonly leaves: (id: string) => Promise<unknown> | undefined;
    /** Makes and journals a change. */
    readonly advance: (job: Job, event: JobEvent) => Promise<Job | undefined>;
    /** Told in the step in which that is journaled, while the job's lock is held. */
    readonly onHastened: (job: Job) => void;
}

/**
 * History that something new waits for, because the two have a file in common, counts as new itself, with the turn of the one
 * that waits. A job under way is left to its try, whose end would be journaled over the change; if that was not the job's
 * own end, it is changed then.
 *
 * What is asked for is in memory: who asks has to ask again after a restart.
 */
export class Hastening {
    readonly #parts: HasteningParts;
    /** The first turn that was asked for, by the job, and when that has been seen to. */
    readonly #wanted = new Map<string, { dueAt: number; readonly over: Promise<void> }>();

    constructor(parts: HasteningParts) {
        this.#parts = parts;
    }

    /** @param dueAt The turn of the one that waits. */
    hasten(id: string, dueAt: number): void {
        const known = this.#wanted.get(id);
        if (known !== undefined) {
            known.dueAt = Math.min(known.dueAt, dueAt);
            return;
        }
        const over = this.#seeTo(id).finally(() => this.#wanted.delete(id));
        this.#wanted.set(id, { dueAt, over });
    }

    /** Resolves when nothing is written any more; to be called when nothing is to be begun any more. */
    async close(): Promise<void> {
        await Promise.all([...this.#wanted.values()].map(({ over }) => over));
    }

    async #seeTo(id: string): Promise<void> {
        const { isOpen, leaves, logger } = this.#parts;
        while (isOpen()) {
            try {
                await leaves(id);
                if (await this.#change(id)) return;
            } catch (error) {
                if (!isOpen()) return;
                const text = "An upload that something new waits for could not be put forward and will be again";
                logger.error(text, { jobId: id, error: loggable(error) });
                await sleep(STORE_RETRY_MS);
            }
        }
    }

    /** Whether nothing is left to be done. */
    async #change(id: string): Promise<boolean> {
        const { store, locks, leaves, advance, onHastened } = this.#parts;
        return locks.hold([id], async () => {
            if (leaves(id) !== undefined) return false;
            const job = await loadJob(store, id);
            const dueAt = this.#wanted.get(id)?.dueAt;
            if (job === undefined || dueAt === undefined) return true;
            if (job.replacedBy !== undefined) this.hasten(job.replacedBy, dueAt);
            if (!job.backfill || job.follows === true) return true;
            const after = await advance(job, { type: "hasten", dueAt });
            if (after !== undefined) onHastened(after);
            // Who was given a place meanwhile may have been read before.
            return leaves(id) === undefined;
        });
    }
}
