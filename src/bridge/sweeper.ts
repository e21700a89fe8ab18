import type { Logger } from "../logger.ts";
import type { Store, Write } from "../store/store.ts";
import { isFinal, type Job } from "../uploads/job.ts";
import { fromOrderedKey, JOBS, loadJob } from "../uploads/job-records.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import type { Spool } from "../uploads/sources/spool.ts";
import { isTakenBack } from "./edits.ts";
import {
    FINISHED,
    finishedWrite,
    forgetEdited,
    hasLine,
    isEdited,
    loadJobs,
    loadMessage,
    MESSAGES,
    type MessageRecord,
} from "./records.ts";
import { predecessorsOf } from "./successor.ts";
import { Tidying } from "./tidying.ts";

const BATCH = 100;

export interface SweeperParts {
    readonly store: Store;
    readonly spool: Spool;
    readonly logger: Logger;
    readonly keepResultsMs: number;
    /** Held from the look at a record until it is forgotten: what is tried again meanwhile would be lost. */
    readonly messageLocks: KeyedLocks;
    readonly jobLocks: KeyedLocks;
}

/** Forgets results after `keepResultsMs`, so that the journal does not grow for ever. */
export class Sweeper {
    readonly #parts: SweeperParts;
    readonly #tidying: Tidying;

    constructor(parts: SweeperParts) {
        this.#parts = parts;
        const { logger, keepResultsMs: keepMs } = parts;
        const work = (cutoff: number): Promise<void> => this.sweep(cutoff);
        this.#tidying = new Tidying({ logger, keepMs, work, failure: "Old results could not be removed" });
    }

    start(): void {
        this.#tidying.start();
    }

    close(): Promise<void> {
        return this.#tidying.close();
    }

    /** Removes what ended before `cutoff`. */
    async sweep(cutoff: number): Promise<void> {
        const { store } = this.#parts;
        for (let full = true; full; ) {
            const keys: string[] = [];
            for await (const key of store.keys({ collection: FINISHED, limit: BATCH })) {
                if (fromOrderedKey(key).time < cutoff) keys.push(key);
            }
            await Promise.all(keys.map((key) => this.#forget(key, cutoff)));
            full = keys.length === BATCH && (await this.#tidying.mayGoOn());
        }
    }

    async #forget(finishedKey: string, cutoff: number): Promise<void> {
        const { store, messageLocks, jobLocks } = this.#parts;
        const entry = fromOrderedKey(finishedKey).id;
        const kind = entry.slice(0, entry.indexOf(" "));
        const id = entry.slice(kind.length + 1);
        const messageId = kind === "message" ? id : (await loadJob(store, id))?.messageId;
        await messageLocks.hold(messageId === undefined ? [] : [messageId], async () => {
            const jobs = kind === "message" ? ((await loadMessage(store, id))?.jobs ?? []) : [id];
            await jobLocks.hold(jobs, async () => {
                const gone = kind === "message" ? await this.#messageWrites(id) : await this.#jobWrites(id, cutoff);
                await store.commit([{ collection: FINISHED, key: finishedKey }, ...gone]);
            });
        });
    }

    async #messageWrites(id: string): Promise<Write[]> {
        const { store } = this.#parts;
        const message = await loadMessage(store, id);
        if (message === undefined || message.state === "queued") return [];
        // An address that ends can only be replaced while its message is known.
        if (await this.#isUnfinished(message)) return [finishedWrite(Date.now(), "message", id)];
        return [{ collection: MESSAGES, key: id }, ...(await forgetEdited(store, id))];
    }

    async #jobWrites(id: string, cutoff: number): Promise<Write[]> {
        const { store, spool } = this.#parts;
        const job = await loadJob(store, id);
        if (job === undefined) return [];
        // Tried again since it ended: its new end has an entry of its own.
        if (!isFinal(job.state) || (job.finishedAt ?? 0) >= cutoff) return [];
        // What the message's other files make of its event shows this one too.
        if (await this.#isOfUnfinished(job)) return [finishedWrite(Date.now(), "job", id)];
        if (job.source.kind === "spool") await spool.remove(job.source.name);
        // Those whose place it took have no entry of their own: handles of theirs lead to it as long as it is there.
        const before = await predecessorsOf(store, job);
        return [job, ...before].map((gone) => ({ collection: JOBS, key: gone.id }));
    }

    async #isOfUnfinished({ messageId }: Job): Promise<boolean> {
        const message = messageId === undefined ? undefined : await loadMessage(this.#parts.store, messageId);
        return message !== undefined && this.#isUnfinished(message);
    }

    /** One that is still in line will show its files, whenever they came; what edits or redacts it there has to know it. */
    async #isUnfinished(message: MessageRecord): Promise<boolean> {
        const { store } = this.#parts;
        if (message.state === "queued" || (await this.#mayBeChanged(message))) return true;
        return (await loadJobs(store, message.jobs)).some((job) => !isFinal(job.state));
    }

    /** Whether it was edited or taken back, and something stands in its room's line that may be that. */
    async #mayBeChanged(message: MessageRecord): Promise<boolean> {
        const { store } = this.#parts;
        if (!isTakenBack(message) && message.redacted !== true && !(await isEdited(store, message.id))) return false;
        return hasLine(store, message.roomId);
    }
}
