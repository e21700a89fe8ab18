import { redactText } from "./redact.ts";

/**
 * The one table of errors. Every error this package throws or stores is a `MediaError` with a code from here; the
 * message tells the reader what to do, `retryable` tells the queue, `cause` keeps what lay underneath. `room` tells a room
 * why a file is not there: what has happened, and nothing of what whoever runs the bridge has to do. Codes that end no job have none.
 * `docs/failures.md` lists every code; a test fails when one is missing there.
 */
export const ERRORS = {
    // What a caller got wrong. Nothing was written.
    INVALID_ARGUMENT: {
        message: "An argument is not what the call takes: correct the named field",
        retryable: false,
    },
    INVALID_OPTION: {
        message: "An option is unknown or has a wrong value: correct the named option",
        retryable: false,
    },
    JOB_UNKNOWN: {
        message: "There is no upload job with that id: it may have finished and been swept",
        retryable: false,
    },
    MESSAGE_UNKNOWN: {
        message: "There is no message with that id: it was never sent here, or its result has been swept",
        retryable: false,
    },
    JOB_NOT_RETRYABLE: { message: "Only a failed job can be retried", retryable: false },
    BRIDGE_NOT_READY: {
        message: "The bridge gave no intent for this user: start() after the bridge is initialised",
        room: "the bridge was not ready",
        retryable: true,
    },
    NOT_STARTED: { message: "Call start() and await it before sending", retryable: false },
    CLOSED: { message: "The component is closed; what was journaled goes on at the next start()", retryable: true },
    BACKLOG_FULL: { message: "As much work is pending as maxPendingJobs allows: send again later", retryable: true },
    // What keeps the state.
    STORE_LOCKED: {
        message: "Another process has the data directory open: stop it, or choose another dataDir",
        retryable: false,
    },
    STORE_NEWER_SCHEMA: {
        message: "The data directory was written by a newer version: upgrade this package",
        retryable: false,
    },
    STORE_UNUSABLE: {
        message: "The data directory cannot be opened: check its path, owner and mode",
        retryable: false,
    },
    STORE_WRITE_FAILED: {
        message: "The journal could not be written: free disk space, then send again",
        retryable: true,
    },
    STORE_READ_FAILED: {
        message: "The journal could not be read: check the disk and the limit of open files, then try again",
        retryable: true,
    },
    STORE_DAMAGED: {
        message: "The journal was damaged and the record of this file is lost: send the message again",
        room: "the bridge has lost track of the file",
        retryable: false,
    },
    SPOOL_FULL: {
        message: "The spool holds as much as maxSpoolBytes allows: it empties as uploads finish",
        retryable: true,
    },
    SPOOL_FAILED: {
        message: "The spool could not be written or read: check the disk under dataDir",
        room: "the bridge had trouble with its disk",
        retryable: true,
    },
    SPOOL_MISSING: {
        message: "The spooled copy of this file is gone: send the message again",
        room: "the bridge no longer has its copy of the file",
        retryable: false,
    },
    // Where bytes come from.
    SOURCE_NOT_FOUND: {
        message: "The source no longer has this file",
        room: "the file is no longer available at its source",
        retryable: false,
    },
    SOURCE_FORBIDDEN: {
        message: "The source refuses access to this file: check the credentials given with it",
        room: "the source gives no access to the file",
        retryable: false,
    },
    SOURCE_REFUSED: {
        message: "The source refused the request for this file",
        room: "the source did not give out the file",
        retryable: false,
    },
    SOURCE_RATE_LIMITED: {
        message: "The source asks to wait before it hands out more files",
        room: "the source gave out no more files for too long",
        retryable: true,
    },
    SOURCE_UNAVAILABLE: {
        message: "The source cannot be reached or is failing",
        room: "the source of the file could not be reached",
        retryable: true,
    },
    SOURCE_TIMEOUT: {
        message: "The source took too long to answer or to send the file",
        room: "the source took too long to send the file",
        retryable: true,
    },
    SOURCE_LENGTH_MISMATCH: {
        message: "The source sent more or fewer bytes than it announced",
        room: "the source sent more or less than it had announced",
        retryable: true,
    },
    SOURCE_CHANGED: {
        message: "The file changed at its source while it was read",
        room: "the file kept changing at its source",
        retryable: true,
    },
    SOURCE_TYPE_MISMATCH: {
        message: "The source sent something else than the promised media, such as a web page or an error text",
        room: "the source sent something else in its place",
        retryable: false,
    },
    SOURCE_CHECKSUM_MISMATCH: {
        message: "The file's bytes are not those that its checksum promised",
        room: "the file arrived damaged",
        retryable: true,
    },
    SOURCE_TOO_MANY_REDIRECTS: {
        message: "The source redirects in a loop or too often",
        room: "the link to the file leads nowhere",
        retryable: false,
    },
    SOURCE_ADDRESS_REFUSED: {
        message:
            "The file's address leads into a private network; list the network in allowPrivateAddresses if that is meant",
        room: "the link to the file leads where the bridge does not go",
        retryable: false,
    },
    CONNECTOR_UNKNOWN: {
        message: "No connector of that name was given in the connectors option",
        room: "the bridge no longer knows how to fetch the file",
        retryable: false,
    },
    FILE_TOO_LARGE: {
        message: "The file is larger than the limit",
        room: "the file is larger than the limit",
        retryable: false,
    },
    // Where events and bytes go to.
    HOMESERVER_UNREACHABLE: {
        message: "The homeserver cannot be reached",
        room: "the homeserver could not be reached",
        retryable: true,
    },
    HOMESERVER_FAILING: {
        message: "The homeserver answered with an error of its own",
        room: "the homeserver had trouble of its own",
        retryable: true,
    },
    HOMESERVER_RATE_LIMITED: {
        message: "The homeserver asks to wait: set rate_limited: false in the registration",
        retryable: true,
    },
    HOMESERVER_ANSWER_INVALID: {
        message: "The homeserver's answer makes no sense: check the address and any proxy before it",
        room: "the homeserver gave no sensible answer",
        retryable: true,
    },
    HOMESERVER_TOKEN_REFUSED: {
        message: "The homeserver does not know the token: check the registration",
        room: "the homeserver did not let the bridge in",
        retryable: true,
    },
    NOT_SUPPORTED: {
        message: "The homeserver does not have this endpoint",
        room: "the homeserver cannot take the file",
        retryable: false,
    },
    FORBIDDEN: {
        message: "The homeserver forbids this: check the ghost's membership and power level",
        room: "the homeserver does not allow it",
        retryable: false,
    },
    EVENT_TOO_LARGE: {
        message: "The event is larger than the homeserver accepts: shorten the content",
        retryable: false,
    },
    EVENT_REFUSED: { message: "The homeserver refused the event", retryable: false },
    UPLOAD_REFUSED: {
        message: "The homeserver refused the upload",
        room: "the homeserver did not accept the file",
        retryable: false,
    },
    UPLOAD_INTERRUPTED: {
        message: "The connection to the homeserver broke while the file was on its way",
        room: "the connection to the homeserver broke while the file was on its way",
        retryable: true,
    },
    UPLOAD_PENDING: {
        message: "The homeserver still holds this address for an earlier try that broke off",
        retryable: true,
    },
    PRESIGNED_REFUSED: {
        message: "The storage refused the presigned upload: the homeserver's own upload is used instead",
        retryable: true,
    },
    PRESIGNED_UNAVAILABLE: {
        message: "The storage behind the presigned upload cannot be reached or is failing",
        retryable: true,
    },
    QUOTA_EXCEEDED: {
        message: "The uploading user has used up the homeserver's media quota",
        room: "the homeserver has no space left for the sender's files",
        retryable: false,
    },
    RESERVATION_GONE: {
        message: "The reserved media address expired before the file arrived",
        room: "the homeserver did not keep a place for the file",
        retryable: false,
    },
    // Encrypted rooms.
    ENCRYPTION_FAILED: {
        message: "The bridge's encryption failed or is not prepared yet",
        retryable: true,
    },
    ENCRYPTION_UNAVAILABLE: {
        message: "The room is encrypted and the bridge has no working encryption for the sender: set it up",
        retryable: false,
    },
    ENCRYPTION_KEYS_GONE: {
        message: "The keys of this message's files are forgotten, so an edit could not show them: send a new message",
        retryable: false,
    },
    // How a job ends early.
    TRANSFER_TIMEOUT: {
        message: "The transfer took longer than the total time limit",
        room: "the file took too long on its way",
        retryable: true,
    },
    CANCELLED: { message: "The upload was cancelled", room: "the upload was cancelled", retryable: false },
    INTERNAL: {
        message: "A defect in this package: please report it with the cause",
        room: "something went wrong on the way",
        retryable: false,
    },
} as const satisfies Record<string, ErrorEntry>;

interface ErrorEntry {
    readonly message: string;
    /** Goes on from "could not be bridged:". */
    readonly room?: string;
    readonly retryable: boolean;
}

export type ErrorCode = keyof typeof ERRORS;

/** The sentence of a code for a room. */
export function roomText(code: ErrorCode): string {
    const { room = ERRORS.INTERNAL.room }: ErrorEntry = ERRORS[code];
    return room;
}

/** What an error carries beside its code; every field is safe to log. */
export interface ErrorDetails {
    /** What underlay it. */
    readonly cause?: unknown;
    /** The argument or option that is wrong, as a path: `media[0].source.url`. */
    readonly field?: string;
    /** What exactly was found, in a few words; appended to the table's message. */
    readonly detail?: string;
    /** HTTP status of the answer, where there was one. */
    readonly status?: number;
    /** The Matrix error code of the answer. */
    readonly errcode?: string;
    /** How long the other side asked to wait, in milliseconds. */
    readonly retryAfterMs?: number;
    /** The limit that was exceeded, in bytes. */
    readonly limit?: number;
    /** True when the other side may have carried the request out although no proper answer came. */
    readonly ambiguous?: boolean;
}

/** The only error class of this package. */
export class MediaError extends Error {
    override readonly name = "MediaError";
    readonly code: ErrorCode;
    readonly retryable: boolean;
    readonly field: string | undefined;
    readonly detail: string | undefined;
    readonly status: number | undefined;
    readonly errcode: string | undefined;
    readonly retryAfterMs: number | undefined;
    readonly limit: number | undefined;
    readonly ambiguous: boolean;

    constructor(code: ErrorCode, details: ErrorDetails = {}) {
        const { message, retryable } = ERRORS[code];
        const where = details.field === undefined ? "" : `${details.field}: `;
        // A detail may quote what the other side said.
        const detail = details.detail === undefined ? undefined : redactText(details.detail);
        const what = detail === undefined ? "" : ` (${detail})`;
        super(`${where}${message}${what}`, details.cause === undefined ? undefined : { cause: details.cause });
        this.code = code;
        this.retryable = retryable;
        this.field = details.field;
        this.detail = detail;
        this.status = details.status;
        this.errcode = details.errcode;
        this.retryAfterMs = details.retryAfterMs;
        this.limit = details.limit;
        this.ambiguous = details.ambiguous ?? false;
    }
}

/** What a log line says of an error. */
export function reasonOf({ code, message, status, errcode }: MediaError) {
    const answer = { ...(status !== undefined && { status }), ...(errcode !== undefined && { errcode }) };
    return { code, ...answer, error: redactText(message) };
}

/** Anything thrown, as a `MediaError`: itself when it is one, else wrapped under `code`. */
export function asMediaError(thrown: unknown, code: ErrorCode = "INTERNAL"): MediaError {
    if (thrown instanceof MediaError) return thrown;
    const detail = systemCode(thrown);
    return new MediaError(code, { cause: thrown, ...(detail !== undefined && { detail }) });
}

/** `ECONNRESET` and its like; undefined where the thrown value carries none. */
export function systemCode(thrown: unknown): string | undefined {
    if (typeof thrown !== "object" || thrown === null) return undefined;
    const { code } = thrown as { code?: unknown };
    return typeof code === "string" ? code : undefined;
}
