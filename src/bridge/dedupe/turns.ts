import type { MediaError } from "../../errors.ts";
import type { Write } from "../../store/store.ts";
import type { Job } from "../../uploads/job.ts";
import { loadJob } from "../../uploads/job-records.ts";
import { KeyedLocks } from "../../uploads/keyed-locks.ts";
import type { Release } from "../../uploads/release.ts";
import { applies, type JobEvent, transition } from "../../uploads/transition.ts";
import { addressOf, endWith, isLeftBehind, lastsLonger, leftAlone, movedTo } from "./common-address.ts";
import { pendingFile, type SharedFile, uploadedFile } from "./shared-file.ts";
import { Succession } from "./succession.ts";
import { change, commitChange, hastenFor, isAlive, leaderOf, type TurnsParts } from "./turns-parts.ts";
import { type OwnRelease, WithEvent } from "./with-event.ts";

/**
 * Who transfers a file that several jobs have in common: the first one that has a place leads, the others follow, without
 * a turn of their own. When the file is there, all are done. When the leader's source gives nothing, a follower goes on with
 * its own (bounded), and the former leader follows it: nobody has failed before all have. When the leader was cancelled,
 * another takes its place; so it does, with another address, when the homeserver has lost that which a caller of `upload()` has.
 * Nobody leads who has no place: another one's source may be open, or its turn come sooner. History that leads, and that
 * something new follows, is history no more, and has that one's turn wherever it waits again. Where the file comes to another
 * address than the one that a caller of `upload()` has, that one is filled beside it, as long as it lives.
 *
 * A job that begins in the commit of its event leads from then on, and one whose file has a leader when its event is
 * accepted follows at once: a sticker that is sent by hundreds while it is on its way would otherwise take hundreds of turns.
 *
 * A leader's end is journaled first, its followers are seen to afterwards, at the start too; so whatever a
 * crash cuts off, no follower waits for nobody.
 */
export class Turns {
    readonly #parts: TurnsParts;
    /** Held, one file each, by whoever decides about its leader. Taken before any job's lock, never after. */
    readonly #locks = new KeyedLocks();
    readonly #withEvent: WithEvent;
    readonly #succession: Succession;

    constructor(parts: TurnsParts) {
        this.#parts = parts;
        this.#withEvent = new WithEvent(parts, (key) => !this.#locks.isFree(key));
        this.#succession = new Succession(parts, this.#locks);
    }

    /** What becomes of a job whose turn has come: itself, perhaps under another address; undefined when it is not to be worked. */
    async beforeBegin(job: Job): Promise<Job | undefined> {
        const { dedupe: key } = job;
        if (key === undefined) return job;
        const ask = (action: (now: Job) => Promise<Job | undefined>) =>
            this.#parts.jobLocks.hold([job.id], async () => {
                const now = await loadJob(this.#parts.store, job.id);
                return now === undefined || !isAlive(now) ? undefined : action(now);
            });
        // Without the file's lock first: many may come at once when it has just arrived.
        const file = await this.#parts.files.load(key);
        if (file?.state === "uploaded") return ask((now) => this.#change(now, endWith(now, file)));
        return this.#locks.hold([key], () => ask((now) => this.#choose(now, key)));
    }

    /** See `WithEvent.release()`. */
    release(job: Job, own: OwnRelease): Release {
        return this.#withEvent.release(job, own);
    }

    /** See `Succession.handOver()`. */
    handOver(job: Job, error: MediaError): Promise<boolean> {
        return this.#succession.handOver(job, error);
    }

    /** See `Succession.tend()`. */
    tend(key: string): Promise<void> {
        return this.#succession.tend(key);
    }

    /** The writes that go with a job's change when it has brought a file that others wait for, or put it into the storage. Synchronous. */
    finishWrites(before: Job, after: Job): Write[] {
        const { files } = this.#parts;
        if (before.state === "transferring" && after.state === "completing") return this.#storedWrites(after);
        const isBrought = before.state === "transferring" || before.state === "completing";
        const file = isBrought && after.state === "done" ? uploadedFile(after) : undefined;
        return file === undefined ? [] : files.set(file.key, file);
    }

    /**
     * From here on the homeserver may hear of it, also by a request whose answer is lost: whoever leads next, should this one be
     * cancelled, does not write over it in the storage but goes by way of the homeserver, which knows what it has.
     */
    #storedWrites({ id, dedupe = "" }: Job): Write[] {
        const { files } = this.#parts;
        const file = files.peek(dedupe);
        return file?.leader === id ? files.set(dedupe, { ...file, presigned: undefined }) : [];
    }

    /**
     * Whether the end of a job may leave something to be seen to: followers, which those that followed themselves do not
     * have, or a presigned address that nobody may need any more.
     */
    mayHaveLed(key: string, jobId: string): boolean {
        const { files } = this.#parts;
        if (!files.isKnown(key)) return true;
        const file = files.peek(key);
        return (
            file !== undefined && (file.leader === jobId || (file.leader === undefined && file.presigned !== undefined))
        );
    }

    async #choose(job: Job, key: string): Promise<Job | undefined> {
        const file = await this.#parts.files.load(key);
        if (file?.state === "uploaded") return this.#change(job, endWith(job, file));
        if (file?.leader === job.id) return job;
        if (file !== undefined && isLeftBehind(job, file)) return this.#change(job, leftAlone(job));
        const leader = file && (await leaderOf(this.#parts.store, file));
        // It took the leader's place in its message: its own address is the file's now.
        if (leader?.id === job.id) return this.#lead(job, key, undefined);
        if (leader === undefined || !isAlive(leader)) return this.#lead(job, key, file);
        // Its message waits for the address that only its own upload gives.
        if (job.dueAt === undefined || !applies(job, "follow")) return job;
        await change(this.#parts, job, { type: "follow", at: Date.now() });
        hastenFor(this.#parts, job, leader.id);
        return undefined;
    }

    /** Has a job end, or have another turn, instead of this one. */
    async #change(job: Job, event: JobEvent): Promise<undefined> {
        await change(this.#parts, job, event);
    }

    async #lead(job: Job, key: string, file: SharedFile | undefined): Promise<Job | undefined> {
        const { files } = this.#parts;
        const { contentUri } = job;
        // A server without /create gives the address with the upload.
        if (contentUri === undefined) return job;
        if (file === undefined || file.contentUri === contentUri) {
            const own = file ?? pendingFile(key, job.uploader, { ...job, contentUri });
            await files.change(key, { ...own, leader: job.id });
            return job;
        }
        if (lastsLonger(job, file)) {
            // It was replaced ahead of its turn: its event shows that one, and nobody leads to the former.
            await files.change(key, movedTo(file, job));
            return job;
        }
        const after = transition(job, { type: "lead", address: addressOf(file), dueAt: job.dueAt ?? Date.now() });
        if (after === undefined) return job;
        await files.change(key, { ...file, leader: job.id }, (writes) => commitChange(this.#parts, job, after, writes));
        return after;
    }
}
