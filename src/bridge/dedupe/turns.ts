import type { ErrorCode, MediaError } from "../../errors.ts";
import type { Store, Write } from "../../store/store.ts";
import { failureOf, isFinal, type Job, mayMove } from "../../uploads/job.ts";
import { applies, type JobEvent, transition } from "../../uploads/transition.ts";
import { jobWrites, loadJob } from "../../uploads/job-records.ts";
import { KeyedLocks } from "../../uploads/keyed-locks.ts";
import { newestJob } from "../successor.ts";
import { type Release, released } from "../../uploads/release.ts";
import { addressGone, addressOf, endWith, isLeftBehind, lastsLonger, leftAlone, movedTo } from "./common-address.ts";
import type { Followers } from "./followers.ts";
import type { KnownFiles } from "./known-files.ts";
import { loadShared, pendingFile, type SharedFile, uploadedFile } from "./shared-file.ts";

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
export interface TurnsParts {
    readonly store: Store;
    readonly files: KnownFiles;
    readonly followers: Followers;
    /** Those that the queue's jobs are changed under. */
    readonly jobLocks: KeyedLocks;
    /** What has to be journaled in the same step as a job's change. */
    readonly alongside: (before: Job, after: Job) => readonly Write[];
    /** Told after each journaled change. */
    readonly onJob: (job: Job) => void;
    /** Told of a job that something new waits for, and when that is due: from then on it is no history. */
    readonly hasten: (jobId: string, dueAt: number) => void;
    /** Told when a job has got a turn of its own. */
    readonly onTurn: () => void;
    /** Told of a file whose followers may have lost their leader. */
    readonly onLeaderless: (key: string) => void;
}

/** Sources that are tried for one file beside the first. */
const MAX_TAKEOVERS = 3;
/** Failures that say nothing about another job's source. */
const OF_THE_SOURCE = /^(?:SOURCE_|SPOOL_|CONNECTOR_|TRANSFER_TIMEOUT$)/;

export class Turns {
    readonly #parts: TurnsParts;
    /** Held, one file each, by whoever decides about its leader. Taken before any job's lock, never after. */
    readonly #locks = new KeyedLocks();

    constructor(parts: TurnsParts) {
        this.#parts = parts;
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
        if (file?.state === "uploaded") return ask((now) => this.#reuse(now, file));
        return this.#locks.hold([key], () => ask((now) => this.#choose(now, key)));
    }

    /**
     * How a job becomes ready: without a turn of its own where its file is there or another one leads, else `own`, which
     * says by `isBegun` that it begins at once: then it leads. Nobody waits for the file's lock here: memory is asked and
     * told in the step in which the writes go to the store, so whoever takes the leader away later finds the follower. To
     * be called while the job's lock is held.
     */
    release(job: Job, own: (job: Job, mayBegin: boolean) => Release): Release {
        const { dedupe: key, contentUri } = job;
        if (key === undefined) return own(job, true);
        const { files, alongside, onJob, onLeaderless } = this.#parts;
        const file = files.peek(key);
        const ready = file && released(job);
        if (contentUri === undefined || file === undefined || ready === undefined) return own(job, false);
        const after = this.#withoutTurn(ready, file);
        if (after === undefined) return this.#withTurn(job, file, own);
        const confirm = (): void => {
            onJob(after);
            if (after.follows === true) this.#hastenFor(after, file.leader);
            // Whoever it follows was to lead by a commit that failed.
            if (after.follows === true && files.peek(key)?.leader !== file.leader) onLeaderless(key);
        };
        return { job: ready, writes: [...jobWrites(job, after), ...alongside(ready, after)], confirm, undo: () => {} };
    }

    #withTurn(job: Job, file: SharedFile, own: (job: Job, mayBegin: boolean) => Release): Release {
        const { files, onLeaderless } = this.#parts;
        const { key, leader } = file;
        // Where somebody is just deciding who leads, it is left to them.
        const mayLead = leader === undefined && file.contentUri === job.contentUri && this.#locks.isFree(key);
        const release = own(job, mayLead);
        if (!mayLead || release.isBegun !== true) return release;
        const led = { ...file, leader: job.id };
        const writes = [...release.writes, ...files.set(key, led)];
        files.hold(key);
        return {
            ...release,
            writes,
            confirm: () => {
                files.letGo(key);
                release.confirm();
            },
            undo: () => {
                release.undo();
                if (files.peek(key) === led) files.set(key, file);
                files.letGo(key);
                onLeaderless(key);
            },
        };
    }

    /** What a job is whose file is there, or is another one's to transfer. */
    #withoutTurn(ready: Job, file: SharedFile): Job | undefined {
        const { state, leader, contentUri, size } = file;
        const at = Date.now();
        if (state === "uploaded") return transition(ready, { type: "reuse", contentUri, size, at });
        return leader === undefined || leader === ready.id ? undefined : transition(ready, { type: "follow", at });
    }

    /** Whether another job goes on with the file in place of `job`, whose try came to nothing. Never rejects. */
    async handOver(job: Job, error: MediaError): Promise<boolean> {
        const { dedupe: key } = job;
        if (key === undefined || !isOfTheSource(error.code)) return false;
        return this.#locks
            .hold([key], async () => {
                const file = await this.#parts.files.load(key);
                if (file === undefined || file.leader !== job.id || file.takeovers >= MAX_TAKEOVERS) return false;
                const former = transition(job, { type: "follow", error, at: Date.now() });
                if (former === undefined) return false;
                const isPassedOn = await this.#promote(key, file, 1, jobWrites(job, former));
                if (isPassedOn) this.#parts.onJob(former);
                return isPassedOn;
            })
            .catch(() => false);
    }

    /** The writes that go with a job's change when it has brought a file that others wait for. Synchronous. */
    finishWrites(before: Job, after: Job): Write[] {
        const { files } = this.#parts;
        const isBrought = before.state === "transferring" || before.state === "completing";
        const file = isBrought && after.state === "done" ? uploadedFile(after) : undefined;
        const known = file && files.peek(file.key);
        // The others, and who comes later, stay with the address that they have.
        if (file === undefined || (known !== undefined && isLeftBehind(after, known))) return [];
        return files.set(file.key, file);
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

    /** Sees to a file's followers after its leader may have ended. */
    async tend(key: string): Promise<void> {
        await this.#locks.hold([key], async () => {
            const { files, followers, onTurn } = this.#parts;
            const file = await files.load(key);
            if (file?.state === "uploaded") {
                await followers.endAll(key, (job) => endWith(job, file));
                return onTurn();
            }
            const leader = file && (await this.#leaderOf(file));
            if (file !== undefined && leader !== undefined && isAlive(leader)) {
                if (file.leader !== leader.id) await this.#move(file, leader);
                return this.#hastenLeader(key, leader);
            }
            const failure = leader && failureOf(leader);
            const isOfSource = failure !== undefined && isOfTheSource(failure.code);
            // Where the homeserver has lost the address, whose caller has not been given it gets another one.
            const isLost = failure?.code === "RESERVATION_GONE" && leader !== undefined && !mayMove(leader);
            const mayLead = isLost ? mayMove : undefined;
            const mayGoOn = failure === undefined || isLost || (isOfSource && (file?.takeovers ?? 0) < MAX_TAKEOVERS);
            if (mayGoOn && (await this.#promote(key, file, isOfSource ? 1 : 0, [], mayLead))) return;
            const error = failure ?? (await followers.anyError(key));
            const failAll = async () => error !== undefined && followers.failAll(key, error);
            if (file === undefined || !mayGoOn) await failAll();
            if (file === undefined) return;
            // Without a leader the address is the next one's, who fills it by way of the homeserver: perhaps nobody comes, and
            // a secret is not kept for nobody. After a failure the next one begins from scratch.
            const left = failure === undefined ? { ...file, leader: undefined, presigned: undefined } : undefined;
            if (file.leader === undefined) {
                // Then another address may have come in its place meanwhile, or be this one, whose commit may fail yet.
                const written = await loadShared(this.#parts.store, key);
                if (written?.contentUri !== file.contentUri || files.peek(key) !== file) return;
            }
            await files.change(key, left);
            // Whoever began to follow the former leader meanwhile has not tried; from here on nobody does.
            if (!(await this.#promote(key, left, 0, [], mayLead))) await failAll();
        });
    }

    async #choose(job: Job, key: string): Promise<Job | undefined> {
        const file = await this.#parts.files.load(key);
        if (file?.state === "uploaded") return this.#reuse(job, file);
        if (file?.leader === job.id) return job;
        if (file !== undefined && isLeftBehind(job, file)) return this.#goAlone(job);
        const leader = file && (await this.#leaderOf(file));
        // It took the leader's place in its message: its own address is the file's now.
        if (leader?.id === job.id) return this.#lead(job, key, undefined);
        if (leader === undefined || !isAlive(leader)) return this.#lead(job, key, file);
        // Its message waits for the address that only its own upload gives.
        if (job.dueAt === undefined || !applies(job, "follow")) return job;
        await this.#change(job, { type: "follow", at: Date.now() });
        this.#hastenFor(job, leader.id);
        return undefined;
    }

    /** Has whom a job follows go with what is new, where the job is. */
    #hastenFor({ backfill, dueAt = Date.now() }: Job, leader: string | undefined): void {
        if (!backfill && leader !== undefined) this.#parts.hasten(leader, dueAt);
    }

    /** Has a file's leader go with what is new, where any of those is that follow it. */
    async #hastenLeader(key: string, leader: Job): Promise<void> {
        const first = leader.backfill ? await this.#parts.followers.firstLive(key) : undefined;
        if (first !== undefined) this.#hastenFor(first, leader.id);
    }

    /** Ends a job whose file is there already, at another address perhaps. */
    async #reuse(job: Job, file: SharedFile): Promise<Job | undefined> {
        if (isLeftBehind(job, file)) return this.#goAlone(job);
        await this.#change(job, endWith(job, file));
        return undefined;
    }

    /** A job that is left behind is worked beside its file's others, for its caller's address. */
    async #goAlone(job: Job): Promise<Job | undefined> {
        const event = leftAlone(job);
        if (event.type === "lead") return job;
        await this.#change(job, event);
        return undefined;
    }

    /** A file goes where its leader has gone, whose address was replaced. */
    async #move(file: SharedFile, leader: Job): Promise<void> {
        const { store, files, followers, onTurn } = this.#parts;
        const former = await loadJob(store, file.leader ?? "");
        const moved = movedTo(file, leader);
        await files.change(file.key, moved);
        const isLost = (leader.addressesLost ?? 0) > (former?.addressesLost ?? 0);
        const eventOf = (job: Job): JobEvent => (isLost ? addressGone() : leftAlone(job));
        await followers.each(file.key, (job) => (isLeftBehind(job, moved) ? eventOf(job) : undefined));
        onTurn();
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
        await files.change(key, { ...file, leader: job.id }, (writes) => this.#commit(job, after, writes));
        return after;
    }

    /** Lets a follower lead that may and has not tried yet; false where there is none. */
    async #promote(
        key: string,
        file: SharedFile | undefined,
        takeovers: 0 | 1,
        alongside: readonly Write[],
        mayLead: (job: Job) => boolean = () => true,
    ): Promise<boolean> {
        const { files, followers, onTurn, onLeaderless } = this.#parts;
        let promoted: Job | undefined;
        await followers.withUntried(key, async (job) => {
            const { contentUri = "", dueAt = Date.now() } = job;
            const next = file ?? pendingFile(key, job.uploader, { contentUri });
            if (isLeftBehind(job, next)) {
                await this.#change(job, leftAlone(job));
                onTurn();
                return false;
            }
            if (!mayLead(job)) return false;
            const after = transition(job, { type: "lead", address: addressOf(next), dueAt });
            if (after === undefined) return false;
            const record = { ...next, leader: job.id, takeovers: next.takeovers + takeovers };
            await files.change(key, record, (writes) => this.#commit(job, after, [...alongside, ...writes]));
            promoted = after;
            return true;
        });
        if (promoted === undefined) return false;
        onTurn();
        // Who has tried in vain, and is new, waits for it. That it leads is journaled, whatever becomes of this look.
        await this.#hastenLeader(key, promoted).catch(() => onLeaderless(key));
        return true;
    }

    /** The job that leads now: one that was replaced has passed the lead on. */
    async #leaderOf({ leader }: SharedFile): Promise<Job | undefined> {
        return leader === undefined ? undefined : newestJob(this.#parts.store, leader);
    }

    async #change(job: Job, event: Parameters<typeof transition>[1]): Promise<void> {
        const after = transition(job, event);
        if (after !== undefined) await this.#commit(job, after, []);
    }

    async #commit(before: Job, after: Job, writes: readonly Write[]): Promise<void> {
        const { store, alongside, onJob } = this.#parts;
        await store.commit([...jobWrites(before, after), ...alongside(before, after), ...writes]);
        onJob(after);
    }
}

function isAlive(job: Job): boolean {
    return !isFinal(job.state) && job.follows !== true;
}

function isOfTheSource(code: ErrorCode): boolean {
    return OF_THE_SOURCE.test(code);
}
