import type { Job } from "../../uploads/job.ts";
import { jobWrites } from "../../uploads/job-records.ts";
import { type Release, released } from "../../uploads/release.ts";
import { transition } from "../../uploads/transition.ts";
import type { SharedFile } from "./shared-file.ts";
import { hastenFor, type TurnsParts } from "./turns-parts.ts";

/** How a job becomes ready by itself: `isBegun` says that it begins at once, which it does only where it may. */
export type OwnRelease = (job: Job, mayBegin: boolean) => Release;

/**
 * A job that shares its file becomes ready with its event: it leads where it begins in that commit, and follows at once where
 * the file has a leader by then.
 */
export class WithEvent {
    readonly #parts: TurnsParts;
    readonly #isBeingDecided: (key: string) => boolean;

    /** @param isBeingDecided Whether somebody is just deciding who leads a file. */
    constructor(parts: TurnsParts, isBeingDecided: (key: string) => boolean) {
        this.#parts = parts;
        this.#isBeingDecided = isBeingDecided;
    }

    /**
     * How a job becomes ready: without a turn of its own where its file is there or another one leads, else `own`, which
     * says by `isBegun` that it begins at once: then it leads. Nobody waits for the file's lock here: memory is asked and
     * told in the step in which the writes go to the store, so whoever takes the leader away later finds the follower. To
     * be called while the job's lock is held.
     */
    release(job: Job, own: OwnRelease): Release {
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
            if (after.follows !== true) return;
            hastenFor(this.#parts, after, file.leader);
            // Whoever it follows was to lead by a commit that failed.
            if (files.peek(key)?.leader !== file.leader) onLeaderless(key);
        };
        return { job: ready, writes: [...jobWrites(job, after), ...alongside(ready, after)], confirm, undo: () => {} };
    }

    #withTurn(job: Job, file: SharedFile, own: OwnRelease): Release {
        const { files, onLeaderless } = this.#parts;
        const { key, leader } = file;
        // Else it is left to them.
        const mayLead = leader === undefined && file.contentUri === job.contentUri && !this.#isBeingDecided(key);
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
}
