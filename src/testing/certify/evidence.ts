import type { Job } from "../../uploads/job.ts";
import type { Deed } from "./deeds.ts";
import { type Journaled, nameOf } from "./journal.ts";
import { isEncryptedRoom } from "./messages.ts";

/** What a dead process' journal says of the deeds that it was told, and what it may have refused of them. */

/** Whether a deed has come to last, so that it has to take effect although nobody tells of it again. */
export function isJournaled(deed: Deed, journal: Journaled, earlier: Journaled): boolean {
    switch (deed.does) {
        case "edit":
            return journal.messages.has(deed.id);
        case "redact": {
            const { state, redact, withdrawn } = journal.messages.get(deed.of.id) ?? {};
            return state === "refused" || redact === true || withdrawn === true;
        }
        case "cancel":
            return jobsOf(deed, journal).some(({ state }) => state === "cancelled");
        case "retry":
            return jobsOf(deed, journal).some(
                ({ id, state }) =>
                    earlier.jobs.get(id)?.state === "failed" && state !== "failed" && state !== "cancelled",
            );
        case "picture":
            return pictureIn(deed, journal);
    }
}

/** The jobs of a deed's file, those that were replaced included. */
export function jobsOf(deed: Extract<Deed, { at: unknown }>, { jobs }: Journaled): Job[] {
    return [...jobs.values()].filter(({ messageId, at }) => messageId === deed.of.id && String(at) === String(deed.at));
}

function pictureIn({ user, file }: Extract<Deed, { does: "picture" }>, { pictures, jobs }: Journaled): boolean {
    const job = jobs.get(pictures.get(user) ?? "");
    return job !== undefined && nameOf(job.source)?.endsWith(`/${file.name}`) === true;
}

/**
 * Whether the component may refuse a deed so.
 * @param isUnknown Whether its message may never have been journaled.
 * @param isTakenBack Whether its message may be taken back.
 */
export function mayRefuse(deed: Deed, code: string, isUnknown: boolean, isTakenBack: boolean): boolean {
    switch (code) {
        case "MESSAGE_UNKNOWN":
            return (deed.does === "edit" || deed.does === "redact") && isUnknown;
        case "CANCELLED":
            return deed.does === "edit" && isTakenBack;
        case "ENCRYPTION_KEYS_GONE":
            return deed.does === "edit" && isEncryptedRoom(deed.of.room) && deed.of.files.length > 0;
        case "JOB_NOT_RETRYABLE":
            return deed.does === "retry";
        default:
            return false;
    }
}
