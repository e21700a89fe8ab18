import { EventEmitter } from "node:events";
import { type MediaError, reasonOf } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import { isFinal, type Job } from "../uploads/job.ts";
import { mustRevise, type Parts } from "./assembly.ts";
import { jobInfo } from "./job-info.ts";
import type { JobInfo } from "./message.ts";
import type { MessageRecord } from "./records.ts";

/**
 * What follows from a change once it is journaled: who is told of it, what is counted, who looks for work. Nothing here is
 * needed after a crash: a start looks at everything.
 */
export class Reactions {
    readonly #logger: Logger;
    readonly #parts: Parts;
    readonly #listeners = new EventEmitter();

    constructor(parts: Parts, logger: Logger) {
        this.#parts = parts;
        this.#logger = logger;
    }

    on(event: "job", listener: (job: JobInfo) => void): void {
        this.#listeners.on(event, listener);
    }

    off(event: "job", listener: (job: JobInfo) => void): void {
        this.#listeners.off(event, listener);
    }

    jobChanged(job: Job, transferredBytes: number): void {
        this.tell(job, transferredBytes);
        this.#parts.expiryWatch.look(job);
        if (job.revived === true && transferredBytes === 0) this.#parts.revisions.poke();
        // What was opened ahead for it: nobody will read it, and it has a place at its source.
        if (job.follows === true || isFinal(job.state)) this.#parts.engine.opened.drop(job.id);
        if (!isFinal(job.state)) return;
        if (job.hadFailed !== true) this.#ended(job, transferredBytes);
        if (job.state !== "failed" && job.source.kind === "spool") {
            this.#parts.spool.remove(job.source.name).catch((error: unknown) => {
                this.#logger.warn("A spooled file could not be removed", { jobId: job.id, error: loggable(error) });
            });
        }
        if (mustRevise(job)) this.#parts.revisions.poke();
    }

    /** Not of one that had failed before: that was its end. */
    #ended(job: Job, transferredBytes: number): void {
        this.#parts.backlog.add(0, -1);
        this.#parts.metrics.jobEnded(job.state, transferredBytes);
        this.#parts.ends.ended(job);
        this.#parts.tending.ended(job);
        this.#parts.reservations.placeFreed(job.uploader);
    }

    /** The work stays as much as it was, and so do spooled bytes: the successor needs them. */
    jobReplaced(old: Job, successor: Job): void {
        for (const job of [old, successor]) this.tell(job, 0);
        this.#parts.metrics.jobEnded(old.state, 0);
        this.#parts.ends.ended(old);
        this.#parts.tending.ended(old);
        this.#parts.expiryWatch.look(successor);
        this.#parts.revisions.poke();
        this.#parts.queue.poke();
    }

    /** A listener that throws must not take a transfer with it. */
    tell(job: Job, transferredBytes: number): void {
        try {
            this.#listeners.emit("job", jobInfo(job, transferredBytes));
        } catch (error) {
            this.#logger.error("A listener of job events threw", { jobId: job.id, error: loggable(error) });
        }
    }

    messageEnded(message: MessageRecord, error: MediaError | undefined): void {
        this.#parts.backlog.add(-1, 0);
        this.#parts.metrics.messageEnded(error === undefined ? "sent" : "refused");
        this.#parts.outcomes.ended(message);
        if (error !== undefined) {
            this.#logger.warn("A message was refused", {
                id: message.id,
                roomId: message.roomId,
                sender: message.sender,
                ...reasonOf(error),
            });
        }
        // Whoever waits for the event hears of it first.
        const mayBeMarked = message.jobs.length > 0 || message.edits !== undefined || message.redact === true;
        if (mayBeMarked) setImmediate(() => this.#parts.revisions.poke());
    }
}
