import type { MediaError } from "../errors.ts";
import {
    afterPreparation,
    type EncryptionStrategy,
    type JobEncryption,
    type Prepared,
} from "./encryption/job-encryption.ts";
import { type Address, type Job, type JobState, mayMove, type PresignedUpload, storedError } from "./job.ts";
import { isWaitedOut } from "./retry.ts";
import { type SourceDescription, withoutSecrets } from "./sources/source.ts";

/**
 * What may happen to an upload job, and what it is then: one pure function makes every change.
 *
 * ```
 *              reserve            release             begin                          finish
 *  unreserved ────────► reserved ────────► ready ────────────► transferring ────────────────► done
 *      │  ▲                 │               ▲ ▲                  │  │   │                      ▲
 *      │  └─ prepare        │      (at once)│ └──── postpone ────┘  │   │ stored               │ finish
 *      │                    │               │   (notBefore is set)  │   ▼                      │
 *      │                    │               │                  fail │  completing ─────────────┘
 *      │                    │               └───────── retry ── failed   │ ▲  (postpone: stays, notBefore is set;
 *      │                    │                                    ▲       └─┘   without presigned: ready)
 *      │                    │                                    └── fail ┘
 *      │                    │      hold (heldFor is set) leaves ready as it is, in another list
 *      ├─ reuse ──► done ◄──┴── reuse (also from ready: the same file is there already)
 *      └─ cancel ──► cancelled ◄── cancel (from every state that is not final, and from failed)
 *
 *  ready, transferring ── follow ──► ready without a turn (another job transfers the same file) ── lead ──► ready
 *  ready, transferring, completing ── replace ──► replaced (another job has its place, with a new MXC)
 * ```
 *
 * *hasten* leaves the state as it is, and the job is history no more.
 *
 * In an encrypted room, *prepare* encrypts the file before its event: it begins from *unreserved* or *reserved* and rests
 * there again.
 */
export type JobEvent =
    | {
          readonly type: "reserve";
          readonly contentUri: string;
          readonly expiresAt: number | undefined;
          readonly presigned?: PresignedUpload | undefined;
      }
    | { readonly type: "encrypt"; readonly strategy: EncryptionStrategy }
    | { readonly type: "prepare"; readonly prepared: Prepared }
    | { readonly type: "forget-key" }
    | { readonly type: "release"; readonly dueAt: number }
    | { readonly type: "begin" }
    | { readonly type: "refresh"; readonly source: SourceDescription }
    | { readonly type: "stored"; readonly size: number }
    | { readonly type: "reuse"; readonly contentUri: string; readonly size: number | undefined; readonly at: number }
    | { readonly type: "finish"; readonly size: number; readonly contentUri: string; readonly at: number }
    | {
          readonly type: "postpone";
          readonly error: MediaError;
          readonly at: number;
          readonly notBefore: number;
          readonly ownFault: boolean;
          /** What is left of the presigned target after this failure. @default as before */
          readonly presigned?: PresignedUpload | undefined;
      }
    | { readonly type: "hold"; readonly source: string }
    | { readonly type: "promote" }
    | { readonly type: "park" }
    | { readonly type: "fail"; readonly error: MediaError; readonly at: number }
    | { readonly type: "retry"; readonly dueAt: number }
    /** `error`: why its own try came to nothing. */
    | { readonly type: "follow"; readonly error?: MediaError; readonly at: number }
    /** `dedupe`: the file that it has in common with others from then on. @default The same as before */
    | { readonly type: "lead"; readonly address: Address; readonly dueAt: number; readonly dedupe?: string }
    /** Something new waits for it, and is due then: it is history no more. */
    | { readonly type: "hasten"; readonly dueAt: number }
    | { readonly type: "replace"; readonly by: string; readonly at: number }
    /** `isUnseen`: no event has shown its address, which is left to another file then. */
    | { readonly type: "cancel"; readonly at: number; readonly isUnseen?: boolean };

const ALLOWED: Readonly<Record<JobEvent["type"], readonly JobState[]>> = {
    // From *transferring*, where the queue is not about it: an upload in one step that a crash cut off. From *reserved*:
    // its event is not out yet, and the first address has run out.
    reserve: ["unreserved", "reserved", "transferring"],
    // From *transferring*: a try that a crash cut off before its message was known to be encrypted.
    encrypt: ["unreserved", "reserved", "transferring"],
    prepare: ["transferring"],
    "forget-key": ["done", "failed", "cancelled"],
    // From *unreserved*: a file without a message on a server without `/create`; or damage of the journal brought back a
    // record from before its event. The upload gives the MXC, or another one.
    release: ["reserved", "ready", "unreserved"],
    // From *reserved*: to be prepared for an encrypted room.
    begin: ["ready", "transferring", "completing", "unreserved", "reserved"],
    refresh: ["transferring"],
    stored: ["transferring"],
    reuse: ["unreserved", "reserved", "ready", "transferring", "completing"],
    finish: ["transferring", "completing"],
    postpone: ["transferring", "completing"],
    // From *transferring*: a crash left it so in the schedule.
    hold: ["ready", "transferring"],
    promote: ["ready", "completing"],
    park: ["transferring", "completing"],
    // From *ready*: one that follows fails with those that tried.
    fail: ["ready", "transferring", "completing"],
    follow: ["ready", "transferring", "completing"],
    lead: ["ready", "transferring", "completing"],
    // From *unreserved* and *reserved*: its own message waits for it in no list. From *transferring*: a crash cut it off.
    hasten: ["unreserved", "reserved", "ready", "transferring", "completing"],
    retry: ["failed"],
    replace: ["ready", "transferring", "completing"],
    // From *failed*: its bytes and what they could be had with were kept to be tried again.
    cancel: ["unreserved", "reserved", "ready", "transferring", "completing", "failed"],
};

/** Whether an event of this type applies to the job's state. */
export function applies(job: Job, type: JobEvent["type"]): boolean {
    // What the queue is about, tried again while its message stands in line, is not given an address beside it: the try
    // writes the job as it began it, and brings one itself.
    if (type === "reserve" && job.state === "transferring" && job.dueAt !== undefined) return false;
    return ALLOWED[type].includes(job.state);
}

/** The only place where a job changes; undefined where the event does not apply to the job's state. */
export function transition(job: Job, event: JobEvent): Job | undefined {
    if (!applies(job, event.type)) return undefined;
    switch (event.type) {
        case "reserve": {
            const { contentUri, expiresAt, presigned } = event;
            return { ...job, state: "reserved", contentUri, expiresAt, presigned };
        }
        case "encrypt": {
            const encryption = { strategy: event.strategy };
            // What others share is not encrypted: its address is left to them.
            if (job.dedupe === undefined) return { ...job, encryption };
            return { ...job, ...NO_ADDRESS, state: "unreserved", dedupe: undefined, encryption };
        }
        case "prepare":
            return prepared(job, event.prepared);
        case "forget-key":
            return { ...job, encryption: withoutKey(job.encryption) };
        case "release":
            return {
                ...job,
                state: "ready",
                dueAt: event.dueAt,
                heldFor: undefined,
                // A try before its event says nothing of this turn; what its source asked for, the source's own list keeps.
                notBefore: undefined,
                ...(job.state === "unreserved" && { revived: true }),
            };
        case "begin":
            return {
                ...job,
                state: job.state === "completing" ? "completing" : "transferring",
                notBefore: undefined,
            };
        case "refresh":
            return { ...job, source: event.source };
        case "stored":
            return { ...job, state: "completing", size: event.size, attempts: 0, waits: undefined, heldFor: undefined };
        case "reuse":
        case "finish":
            return {
                ...withoutTheSecretsOf(job),
                ...movedTo(job, event.contentUri),
                state: "done",
                follows: undefined,
                size: event.size,
                contentUri: event.contentUri,
                finishedAt: event.at,
                notBefore: undefined,
                error: undefined,
            };
        case "postpone": {
            // Without the target that has its bytes, a job has all of them to transfer again.
            const startsOver = job.state === "completing" && "presigned" in event && event.presigned === undefined;
            return {
                ...job,
                state: startsOver ? "ready" : restingState(job),
                attempts: startsOver ? 0 : job.attempts + (event.ownFault ? 1 : 0),
                waits: isWaitedOut(event.error.code, event.ownFault) ? (job.waits ?? 0) + 1 : undefined,
                failedAt: event.at,
                notBefore: event.notBefore,
                heldFor: undefined,
                error: storedError(event.error),
                ...("presigned" in event && { presigned: event.presigned }),
                ...(event.error.code === "SOURCE_CHANGED" && { encryption: stale(job.encryption) }),
            };
        }
        case "hold":
            return { ...job, state: "ready", heldFor: event.source };
        case "promote":
            return { ...job, notBefore: undefined };
        case "park":
            return { ...job, state: restingState(job) };
        case "fail":
            return {
                ...job,
                ...(isUnseen(job) && NO_ADDRESS),
                state: "failed",
                error: storedError(event.error),
                finishedAt: event.at,
                notBefore: undefined,
                presigned: undefined,
                follows: undefined,
            };
        case "retry":
            return {
                ...job,
                state: "ready",
                dueAt: event.dueAt,
                attempts: 0,
                waits: undefined,
                addressesLost: 0,
                revived: true,
                finishedAt: undefined,
                heldFor: undefined,
            };
        case "follow":
            return {
                ...job,
                state: "ready",
                follows: true,
                notBefore: undefined,
                heldFor: undefined,
                // The address is the other job's to look after, but for what a caller was told: the other may leave it.
                expiresAt: mayMove(job) ? undefined : job.expiresAt,
                presigned: undefined,
                // An error says that its own source was tried in vain; what failed before it was tried again says nothing.
                error: event.error && storedError(event.error),
                ...(event.error !== undefined && { failedAt: event.at }),
            };
        case "lead": {
            const { address, dueAt, dedupe = job.dedupe } = event;
            const turn = { follows: undefined, heldFor: undefined, dueAt, dedupe };
            return { ...job, ...movedTo(job, address.contentUri), ...address, ...turn };
        }
        case "hasten": {
            const dueAt = job.dueAt === undefined ? undefined : Math.min(job.dueAt, event.dueAt);
            return { ...job, backfill: false, dueAt };
        }
        case "replace":
            return {
                ...withoutTheSecretsOf(job),
                encryption: withoutKey(job.encryption),
                state: "replaced",
                replacedBy: event.by,
                finishedAt: event.at,
                notBefore: undefined,
            };
        case "cancel":
            return {
                ...withoutTheSecretsOf(job),
                // One that failed unseen has left its address then.
                ...(event.isUnseen === true && job.state !== "failed" && job.dedupe === undefined && NO_ADDRESS),
                state: "cancelled",
                notBefore: undefined,
                // That end stays: the list of what has ended has it, and so has the room.
                ...(job.state === "failed" ? { hadFailed: true } : { finishedAt: event.at }),
            };
    }
}

/** Whether it is under way only to be encrypted, so that no event can have shown its address. */
export function isUnseen({ state, dueAt, encryption, dedupe }: Job): boolean {
    const isInPreparation = encryption !== undefined && encryption.file === undefined && dueAt === undefined;
    return isInPreparation && state === "transferring" && dedupe === undefined;
}

const NO_ADDRESS = { contentUri: undefined, expiresAt: undefined, presigned: undefined };

/** A room that was shown one MXC is to be shown the other. */
function movedTo({ contentUri = "" }: Job, other: string | undefined): Pick<Job, "revived"> {
    return contentUri === "" || contentUri === other ? {} : { revived: true };
}

/** Where a job that is under way waits when its try has ended without an end. */
function restingState({ state, dueAt, contentUri }: Job): JobState {
    if (state === "completing") return "completing";
    if (dueAt !== undefined) return "ready";
    return contentUri === undefined ? "unreserved" : "reserved";
}

/** A job that is not in the queue yet rests again: its event comes first. */
function prepared(job: Job, found: Prepared): Job {
    if (job.encryption === undefined) return job;
    const encryption = afterPreparation(job.encryption, found);
    return {
        ...job,
        state: job.dueAt === undefined ? restingState(job) : job.state,
        encryption,
        size: found.size,
        source: found.spoolName === undefined ? job.source : { kind: "spool", name: found.spoolName },
        heldFor: found.spoolName === undefined ? job.heldFor : undefined,
        // A source that changes again and again must come to an end.
        attempts: encryption.renewed === true ? job.attempts : 0,
        waits: undefined,
        // The room may have been shown the former key.
        revived: encryption.renewed === true ? true : job.revived,
    };
}

function withoutKey(encryption: JobEncryption | undefined): JobEncryption | undefined {
    return encryption && { ...encryption, file: undefined };
}

/** A spooled ciphertext does not change with its source. */
function stale(encryption: JobEncryption | undefined): JobEncryption | undefined {
    return encryption === undefined || encryption.spooled === true ? encryption : { ...encryption, stale: true };
}

/** A failed job keeps the source, to be tried again; one that is over keeps nothing that could be misused. */
function withoutTheSecretsOf(job: Job): Job {
    return { ...job, source: withoutSecrets(job.source), presigned: undefined };
}
