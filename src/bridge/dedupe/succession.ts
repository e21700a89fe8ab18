import type { ErrorCode, MediaError } from "../../errors.ts";
import type { Write } from "../../store/store.ts";
import { failureOf, type Job, mayMove } from "../../uploads/job.ts";
import { jobWrites, loadJob } from "../../uploads/job-records.ts";
import type { KeyedLocks } from "../../uploads/keyed-locks.ts";
import { type JobEvent, transition } from "../../uploads/transition.ts";
import { addressGone, addressOf, endWith, isLeftBehind, leftAlone, movedTo } from "./common-address.ts";
import { loadShared, pendingFile, type SharedFile } from "./shared-file.ts";
import { change, commitChange, hastenFor, isAlive, leaderOf, type TurnsParts } from "./turns-parts.ts";

/** Sources that are tried for one file beside the first. */
const MAX_TAKEOVERS = 3;
/** Failures that say nothing about another job's source. */
const OF_THE_SOURCE = /^(?:SOURCE_|SPOOL_|CONNECTOR_|TRANSFER_TIMEOUT$)/;

/** What becomes of a file, and of those that follow, when its leader's try or the leader itself has come to its end. */
export class Succession {
    readonly #parts: TurnsParts;
    /** See turns.ts. */
    readonly #locks: KeyedLocks;

    constructor(parts: TurnsParts, locks: KeyedLocks) {
        this.#parts = parts;
        this.#locks = locks;
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

    /** Sees to a file's followers after its leader may have ended. */
    async tend(key: string): Promise<void> {
        await this.#locks.hold([key], async () => {
            const { files, followers, onTurn } = this.#parts;
            const file = await files.load(key);
            if (file?.state === "uploaded") {
                await followers.endAll(key, (job) => endWith(job, file));
                return onTurn();
            }
            const leader = file && (await leaderOf(this.#parts.store, file));
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

    /** Has a file's leader go with what is new, where any of those is that follow it. */
    async #hastenLeader(key: string, leader: Job): Promise<void> {
        const first = leader.backfill ? await this.#parts.followers.firstLive(key) : undefined;
        if (first !== undefined) hastenFor(this.#parts, first, leader.id);
    }

    /**
     * A file goes where its leader has gone, whose address was replaced. Its record comes last, for by that it is known that this
     * is still to be done.
     */
    async #move(file: SharedFile, leader: Job): Promise<void> {
        const { store, files, followers, onTurn, onLeaderless } = this.#parts;
        const former = await loadJob(store, file.leader ?? "");
        const moved = movedTo(file, leader);
        const isLost = (leader.addressesLost ?? 0) > (former?.addressesLost ?? 0);
        const eventOf = (job: Job): JobEvent => (isLost ? addressGone() : leftAlone(job));
        await followers.each(file.key, (job) => (isLeftBehind(job, moved) ? eventOf(job) : undefined));
        onTurn();
        // Its leader may have brought the file meanwhile.
        if (files.peek(file.key) === file) await files.change(file.key, moved);
        else onLeaderless(file.key);
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
                await change(this.#parts, job, leftAlone(job));
                onTurn();
                return false;
            }
            if (!mayLead(job)) return false;
            const after = transition(job, { type: "lead", address: addressOf(next), dueAt });
            if (after === undefined) return false;
            const record = { ...next, leader: job.id, takeovers: next.takeovers + takeovers };
            await files.change(key, record, (writes) =>
                commitChange(this.#parts, job, after, [...alongside, ...writes]),
            );
            promoted = after;
            return true;
        });
        if (promoted === undefined) return false;
        onTurn();
        // Who has tried in vain, and is new, waits for it. That it leads is journaled, whatever becomes of this look.
        await this.#hastenLeader(key, promoted).catch(() => onLeaderless(key));
        return true;
    }
}

function isOfTheSource(code: ErrorCode): boolean {
    return OF_THE_SOURCE.test(code);
}
