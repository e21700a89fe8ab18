import { type ErrorCode, MediaError } from "../errors.ts";
import type { JobEncryption } from "./encryption/job-encryption.ts";
import type { SourceDescription } from "./sources/source.ts";

/**
 * An upload job: one transfer from a source to an MXC URI, and its persisted state. transition.ts has the chart of the states.
 *
 * *unreserved*: its message is journaled, no MXC yet. *reserved*: MXC journaled, its event is not accepted yet.
 * *ready*: waits for a place in the queue. *transferring*: bytes flow; a crash here starts the transfer anew.
 * *completing*: a presigned target has all bytes, and the homeserver is to be told; a crash here repeats only that.
 * A server without `/create` gives the MXC only with the upload itself: there `begin` is allowed from *unreserved*.
 */
export type JobState =
    | "unreserved"
    | "reserved"
    | "ready"
    | "transferring"
    | "completing"
    | "done"
    | "failed"
    | "cancelled"
    | "replaced";

export interface StoredError {
    readonly code: ErrorCode;
    readonly message: string;
    /** What exactly was found, in a few words; `message` ends with it. */
    readonly detail?: string | undefined;
    /** HTTP status of the answer, where there was one. */
    readonly status?: number | undefined;
    /** The Matrix error code of the answer. */
    readonly errcode?: string | undefined;
    /** Bytes; where a limit was exceeded that is known. */
    readonly limit?: number | undefined;
}

/** An error as the journal keeps it. */
export function storedError(error: MediaError): StoredError {
    const { code, message } = error;
    return { code, message, ...reasonsOf(error) };
}

/** A stored error, to be thrown: one of its own for each who catches it. */
export function thrownAgain(error: StoredError): MediaError {
    // Journals from before 0.1.0 have the detail in the message alone.
    const { detail = /\(([^()]*)\)$/.exec(error.message)?.[1], ...others } = error;
    return new MediaError(error.code, reasonsOf({ detail, ...others }));
}

function reasonsOf({ detail, status, errcode, limit }: Omit<StoredError, "code" | "message">) {
    return {
        ...(detail !== undefined && { detail }),
        ...(status !== undefined && { status }),
        ...(errcode !== undefined && { errcode }),
        ...(limit !== undefined && { limit }),
    };
}

/** Where the homeserver wants a file to be put instead of to itself (MSC3870). The URL is a secret. */
export interface PresignedUpload {
    readonly url: string;
    readonly method: "PUT" | "POST";
    /** Tries that failed there so far. @default 0 */
    readonly failures?: number;
}

export interface Job {
    readonly id: string;
    readonly state: JobState;
    /** Who reserves and uploads: the homeserver lets nobody else fill the MXC. */
    readonly uploader: string;
    readonly source: SourceDescription;
    readonly createdAt: number;
    /** Where the transfers stand in the order of work: see priority.ts. */
    readonly backfill: boolean;
    /** As promised by the message; undefined where it says nothing. */
    readonly mimetype?: string | undefined;
    /** What its message's kind promises where it names no type: `image/*`, `video/*` or `audio/*`. */
    readonly family?: string | undefined;
    /** Bytes, as promised by the message, or as transferred once done. */
    readonly size?: number | undefined;
    readonly filename?: string | undefined;
    /** What the bytes of its source must hash to, as lower-case hex. */
    readonly sha256?: string | undefined;
    /** The message it belongs to; undefined for a bare `upload()`. */
    readonly messageId?: string | undefined;
    readonly roomId?: string | undefined;
    /** Where in the event's content the MXC stands. */
    readonly at?: readonly string[] | undefined;
    readonly contentUri?: string | undefined;
    /** When the homeserver takes the reservation back. */
    readonly expiresAt?: number | undefined;
    /** Undefined where the homeserver itself takes the file, or has to after all. */
    readonly presigned?: PresignedUpload | undefined;
    /** Only in encrypted rooms. It holds the file's key until no event of its message can need it any more. */
    readonly encryption?: JobEncryption | undefined;
    /** Its place in the queue; see priority.ts. */
    readonly dueAt?: number | undefined;
    /** Failed tries so far. */
    readonly attempts: number;
    /** Tries in a row that came to nothing and do not count, because what failed them passes by waiting. @default 0 */
    readonly waits?: number | undefined;
    /** A try before this time would be too early. */
    readonly notBefore?: number | undefined;
    /** The source (see source-gate.ts) that was closed when its turn came: it waits in that source's list. */
    readonly heldFor?: string | undefined;
    readonly error?: StoredError | undefined;
    /** When it last failed. */
    readonly failedAt?: number | undefined;
    readonly finishedAt?: number | undefined;
    /** The job that has its place now. */
    readonly replacedBy?: string | undefined;
    /** The job whose place it took. */
    readonly replaces?: string | undefined;
    /** Addresses of this file that the homeserver no longer knew when the bytes came. @default 0 */
    readonly addressesLost?: number | undefined;
    /** Where everybody may fetch the file instead; shown when it cannot come. */
    readonly publicUrl?: string | undefined;
    /** Its address is with the caller of `upload()`, who hears of no other. */
    readonly isGivenOut?: boolean | undefined;
    /** The room may show something else than this job's end: it had failed before, or had another MXC. */
    readonly revived?: boolean | undefined;
    /** Cancelled only after it had failed: what its event says of it stays true. */
    readonly hadFailed?: boolean | undefined;
    /** The file that it has in common with other jobs, by the key of its record; undefined for one of its own. */
    readonly dedupe?: string | undefined;
    /** Another job transfers that file: this one has no turn of its own. */
    readonly follows?: boolean | undefined;
}

/** An MXC URI and what belongs to it. */
export type Address = { readonly contentUri: string } & Pick<Job, "expiresAt" | "presigned">;

/** Why it has failed for good, also where it was cancelled afterwards. */
export function failureOf({ state, hadFailed, error }: Job): StoredError | undefined {
    return state === "failed" || hadFailed === true ? error : undefined;
}

/** Whether it may come to another address: an event that shows the one it has is edited, and else nobody was given it. */
export function mayMove({ messageId, isGivenOut }: Job): boolean {
    return messageId !== undefined || isGivenOut !== true;
}

export function isFinal(state: JobState): boolean {
    return state === "done" || state === "failed" || state === "cancelled" || state === "replaced";
}
