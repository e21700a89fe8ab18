import type { Store, Write } from "../../store/store.ts";
import type { Address, Job } from "../../uploads/job.ts";
import { applies, transition } from "../../uploads/transition.ts";
import { jobWrites } from "../../uploads/job-records.ts";
import { KeyedLocks } from "../../uploads/keyed-locks.ts";
import { dueFromNow } from "../../uploads/release.ts";
import { deferred } from "../../deferred.ts";
import { type Reservation, type Reservations, takenWrite } from "../reservations.ts";
import type { KnownFiles } from "./known-files.ts";
import { pendingFile, type SharedFile } from "./shared-file.ts";

/**
 * Which address a job gets: one of its own, or that of the file which it has in common with others. The first job of a
 * file brings a reservation and writes the file's record; the others copy the address from there.
 *
 * Until the first one's commit is through, nobody shares its address: if the disk refuses it, the reservation
 * goes back to those that anybody may take.
 */
export interface Claim {
    readonly address: Address;
    /** To be committed, in the same step, with the job that gets the address. */
    readonly writes: readonly Write[];
    /** To be called when that is written. */
    confirm(): void;
    /** To be called when it could not be. */
    undo(): void;
}

/** With less time left than this, the address of a file that nobody transfers is not worth sharing. */
const WORTH_SHARING_MS = 60_000;
/** Before whatever is in the queue's lists. */
const FIRST_OF_ALL = 0;

export interface AddressesParts {
    readonly store: Store;
    readonly files: KnownFiles;
    readonly reservations: Reservations;
    /** Told of a job that something new waits for, and when that is due: from then on it is no history. */
    readonly hasten: (jobId: string, dueAt: number) => void;
}

export class Addresses {
    readonly #store: Store;
    readonly #files: KnownFiles;
    readonly #reservations: Reservations;
    readonly #unwritten = new Map<string, Promise<void>>();
    readonly #hasten: AddressesParts["hasten"];
    readonly #alone = new KeyedLocks();
    /** Who is in there or waits for it, in that order, by the file's key. */
    readonly #lines = new Map<string, Set<Job>>();

    constructor(parts: AddressesParts) {
        this.#store = parts.store;
        this.#files = parts.files;
        this.#reservations = parts.reservations;
        this.#hasten = parts.hasten;
    }

    /** What a new job can have without a request; undefined where it has to be seen to later. Synchronous. */
    atHand(job: Job): Claim | undefined {
        const { dedupe: key, uploader } = job;
        if (key !== undefined && (!this.#files.isKnown(key) || this.#unwritten.has(key))) return undefined;
        const file = this.#common(key);
        if (file !== undefined) return shared(file);
        const reservation = this.#reservations.takeWarm(uploader);
        return reservation && this.#own(job, reservation);
    }

    /** Whether a job's file has an address that it could share. */
    async hasShared({ dedupe }: Job): Promise<boolean> {
        if (dedupe === undefined) return false;
        await this.#loadWritten(dedupe);
        return this.#common(dedupe) !== undefined;
    }

    /**
     * Gives a job the address of its file; undefined where that has none. The job's lock must be held.
     * @param onwards What the job becomes in the same step.
     */
    async share(job: Job, onwards = asItIs): Promise<Job | undefined> {
        if (job.dedupe === undefined || !applies(job, "reserve")) return undefined;
        await this.#loadWritten(job.dedupe);
        const file = this.#common(job.dedupe);
        return file && this.#assign(job, shared(file), onwards);
    }

    /**
     * Gives a job this reservation, or, when its file has got an address meanwhile, that one. The job's lock must be
     * held. Undefined where the job wants none any more: the reservation is the caller's again. Where it rejects, it is anybody's.
     * @param onwards What the job becomes in the same step.
     */
    async assign(job: Job, reservation: Reservation, onwards = asItIs): Promise<Job | undefined> {
        // Before anything is claimed: what is given back twice would be two messages' address.
        if (!applies(job, "reserve")) return undefined;
        if (job.dedupe !== undefined) await this.#reservations.guarded(reservation, this.#loadWritten(job.dedupe));
        const file = this.#common(job.dedupe);
        if (file === undefined) return this.#assign(job, this.#own(job, reservation), onwards);
        const giveBack = (): void => this.#reservations.giveBack(reservation);
        const writes = [this.#reservations.keptWrite(reservation)];
        return this.#assign(job, { ...shared(file), writes, confirm: giveBack, undo: giveBack }, onwards);
    }

    /**
     * Runs `task` while no other job with the same file is in here: one of them gets the address, or the file, for all. What
     * is new does not wait for history's turn: who is in here has its own.
     */
    async alone<T>(job: Job, task: () => Promise<T>): Promise<T> {
        const { dedupe: key } = job;
        if (key === undefined) return task();
        const line = this.#lines.get(key) ?? new Set();
        const [inside = job] = line;
        this.#hastenFor(job, inside);
        this.#lines.set(key, line.add(job));
        try {
            return await this.#alone.hold([key], () => {
                this.entered(job);
                return task();
            });
        } finally {
            line.delete(job);
            if (line.size === 0) this.#lines.delete(key);
        }
    }

    /** To be called by who is journaled only in there: something new may have come to wait for it before. */
    entered(job: Job): void {
        for (const waiting of this.#lines.get(job.dedupe ?? "") ?? []) this.#hastenFor(waiting, job);
    }

    #hastenFor(waiting: Job, before: Job): void {
        if (waiting.backfill || !before.backfill) return;
        this.#hasten(before.id, waiting.messageId === undefined ? dueFromNow(waiting) : FIRST_OF_ALL);
    }

    async #assign(job: Job, claim: Claim, onwards: (job: Job) => Job): Promise<Job> {
        const { contentUri, expiresAt, presigned } = claim.address;
        const after = onwards(transition(job, { type: "reserve", contentUri, expiresAt, presigned }) ?? job);
        try {
            await this.#store.commit([...claim.writes, ...jobWrites(job, after)]);
        } catch (error) {
            claim.undo();
            throw error;
        }
        claim.confirm();
        return after;
    }

    /** Afterwards, in the same step, memory knows the file, and nobody's commit of it is under way. */
    async #loadWritten(key: string): Promise<void> {
        for (let other = this.#unwritten.get(key); other !== undefined; other = this.#unwritten.get(key)) await other;
        if (this.#files.isKnown(key)) return;
        await this.#files.load(key);
        await this.#loadWritten(key);
    }

    #common(key: string | undefined): SharedFile | undefined {
        const file = key === undefined ? undefined : this.#files.peek(key);
        return file !== undefined && isWorthSharing(file) ? file : undefined;
    }

    #own(job: Job, reservation: Reservation): Claim {
        const { dedupe: key, uploader } = job;
        const single: Claim = {
            address: reservation,
            writes: [takenWrite(reservation)],
            confirm: () => {},
            undo: () => this.#reservations.giveBack(reservation),
        };
        if (key === undefined) return single;
        const { promise: written, resolve } = deferred();
        this.#unwritten.set(key, written);
        this.#files.hold(key);
        const file = pendingFile(key, uploader, reservation);
        const before = this.#files.peek(key);
        const writes = this.#files.set(key, file);
        const end = (): void => {
            this.#unwritten.delete(key);
            this.#files.letGo(key);
            resolve();
        };
        return {
            ...single,
            writes: [...single.writes, ...writes],
            confirm: end,
            undo: () => {
                if (this.#files.peek(key) === file) this.#files.set(key, before);
                end();
                single.undo();
            },
        };
    }
}

const asItIs = (job: Job): Job => job;

function shared({ contentUri, expiresAt, presigned }: SharedFile): Claim {
    const nothing = (): void => {};
    return { address: { contentUri, expiresAt, presigned }, writes: [], confirm: nothing, undo: nothing };
}

function isWorthSharing({ state, leader, expiresAt }: SharedFile): boolean {
    if (state === "uploaded" || leader !== undefined || expiresAt === undefined) return true;
    return expiresAt - Date.now() > WORTH_SHARING_MS;
}
