import { MediaError } from "../../errors.ts";
import { runsOut } from "../../uploads/expiry.ts";
import type { Address, Job } from "../../uploads/job.ts";
import type { JobEvent } from "../../uploads/transition.ts";
import { leftKeyOf, type SharedFile } from "./shared-file.ts";

/** What becomes of a shared file's address, and of a job that has another one. Decisions only. */

export function addressOf({ contentUri, expiresAt, presigned }: SharedFile): Address {
    return { contentUri, expiresAt, presigned };
}

/** A leader that was replaced has a new address. */
export function movedTo(file: SharedFile, { id, contentUri = file.contentUri, expiresAt, presigned }: Job): SharedFile {
    return { ...file, leader: id, contentUri, expiresAt, presigned };
}

/** Whether a job's own address ends later than the one that its file has. */
export function lastsLonger(job: Job, file: SharedFile): boolean {
    return job.expiresAt !== undefined && file.expiresAt !== undefined && job.expiresAt > file.expiresAt;
}

/** Whether a file's address is another than the one that is with the job's caller. */
export function isLeftBehind({ isGivenOut, contentUri }: Job, file: Pick<SharedFile, "contentUri">): boolean {
    return isGivenOut === true && contentUri !== undefined && contentUri !== file.contentUri;
}

/** What becomes of a job whose file is there. */
export function endWith(job: Job, file: SharedFile): JobEvent {
    const { contentUri, size } = file;
    return isLeftBehind(job, file) ? leftAlone(job) : { type: "reuse", contentUri, size, at: Date.now() };
}

/**
 * What becomes of a job that is left behind: a turn of its own, for its caller's address is to be filled all the same, once for
 * all who have it; or its end, where that address has too little life left. Where its end is not known, the homeserver will say.
 */
export function leftAlone(job: Job): JobEvent {
    const { contentUri, expiresAt, presigned, dueAt = Date.now(), dedupe = "" } = job;
    if (contentUri === undefined || runsOut(job, Date.now())) return addressGone();
    const address = { contentUri, expiresAt, presigned };
    return { type: "lead", address, dueAt, dedupe: leftKeyOf(dedupe, contentUri) };
}

export function addressGone(): JobEvent {
    return { type: "fail", error: new MediaError("RESERVATION_GONE"), at: Date.now() };
}
