import { isFinal, type Job } from "../../uploads/job.ts";
import { isLargeForCertain } from "../../uploads/places.ts";
import { sourceKeyOf } from "../../uploads/source-gate.ts";
import type { Deed } from "./deeds.ts";
import { jobsOf } from "./evidence.ts";
import { isKnown, lastPart, nameOf } from "./journal.ts";
import { NO_LINK } from "./messages.ts";
import type { RecordedRequest } from "./recorder/recorder.ts";
import type { Death, Step } from "./step.ts";
import { brought, calling } from "./steps-of-messages.ts";

/** The steps of upload jobs. */

/** The component's own default. */
const PLACES = 4;

const jobs = ({ journal }: Death): Job[] => [...journal.jobs.values()];
const some = (is: (death: Death, job: Job) => boolean) => (death: Death) => jobs(death).some((job) => is(death, job));
const isQueued = ({ journal }: Death, { messageId = "" }: Job): boolean =>
    journal.messages.get(messageId)?.state === "queued";
const was = ({ earlier }: Death, { id }: Job): Job | undefined => earlier.jobs.get(id);
const isNewly = (death: Death, job: Job): boolean => was(death, job)?.state !== job.state;
const address = ({ recorder }: Death, { contentUri }: Job) => recorder.media.find(contentUri);
const isUnderWay = ({ state }: Job): boolean => state === "transferring" || state === "completing";
/** Waits for a place and for nothing else. */
const isDue = ({ state, notBefore, heldFor, follows }: Job): boolean =>
    state === "ready" && notBefore === undefined && heldFor === undefined && follows === undefined;

/** The requests of this process for a job's file, or for its address. */
function askedFor({ requests }: Death, { source, contentUri }: Job): RecordedRequest[] {
    const parts = [nameOf(source), contentUri].map(lastPart).filter((part) => part !== undefined);
    return requests.filter(
        ({ kind, path }) => kind !== "send" && parts.some((part) => path.endsWith(part) || path.includes(`${part}/`)),
    );
}

function answered(death: Death, job: Job, status: number, kinds: readonly RecordedRequest["kind"][]): boolean {
    return askedFor(death, job).some((request) => request.status === status && kinds.includes(request.kind));
}

function linkOf({ source }: Job): string | undefined {
    const { link } = (source.kind === "connector" ? (source.ref ?? {}) : {}) as { link?: string };
    return link === NO_LINK ? undefined : link;
}

/** The jobs of files whose call of this kind has been made and has no end. */
function called(death: Death, does: "cancel" | "retry", is: (job: Job) => boolean): boolean {
    const deeds: Extract<Deed, { at: unknown }>[] = calling(death, does);
    return deeds.some((deed) => jobsOf(deed, death.journal).some((job) => job.state !== "replaced" && is(job)));
}

export const JOB_STEPS: readonly Step[] = [
    {
        name: "reserve",
        before: ({ created, journal }) => created.some((uri) => !isKnown(journal, uri)),
        after: some((death, job) => job.state === "reserved" && isNewly(death, job) && isQueued(death, job)),
    },
    {
        name: "encrypt, prepare",
        before: some(
            (death, job) =>
                job.state === "transferring" &&
                job.encryption?.file === undefined &&
                isQueued(death, job) &&
                (job.source.kind === "spool" || askedFor(death, job).length > 0),
        ),
        after: some(
            (death, job) =>
                job.encryption?.file !== undefined &&
                was(death, job)?.encryption?.file === undefined &&
                isQueued(death, job),
        ),
    },
    {
        name: "begin",
        before: (death) =>
            jobs(death).some((job) => isDue(job) && !isQueued(death, job)) &&
            jobs(death).filter((job) => isUnderWay(job) && !isQueued(death, job)).length < PLACES,
        after: some(
            (death, job) =>
                job.state === "transferring" &&
                isNewly(death, job) &&
                !isQueued(death, job) &&
                askedFor(death, job).length === 0,
        ),
    },
    {
        name: "hold",
        before: (death) => {
            const troubled = new Set(
                jobs(death)
                    .filter(({ notBefore = 0, error }) => notBefore > death.diedAt && error?.code.startsWith("SOURCE_"))
                    .map(sourceKeyOf),
            );
            return jobs(death).some((job) => isDue(job) && !isQueued(death, job) && troubled.has(sourceKeyOf(job)));
        },
        after: some((death, job) => isHeld(job) && !isHeld(was(death, job))),
    },
    {
        name: "refresh",
        before: some(
            (death, job) =>
                job.state === "transferring" &&
                linkOf(job) === (was(death, job) && linkOf(was(death, job) ?? job)) &&
                answered(death, job, 200, ["link"]),
        ),
        after: some((death, job) => {
            const before = was(death, job);
            const isNew = linkOf(job) !== undefined && linkOf(job) !== (before && linkOf(before));
            return isNew && job.state === "transferring" && address(death, job)?.content === undefined;
        }),
    },
    {
        name: "large file, in the thread",
        before: some(
            (death, job) =>
                isLargeForCertain(job) &&
                job.state === "transferring" &&
                !isQueued(death, job) &&
                address(death, job)?.content === undefined &&
                askedFor(death, job).length > 0,
        ),
        after: some((death, job) => isLargeForCertain(job) && job.state === "done" && isNewly(death, job)),
    },
    {
        name: "stored",
        before: some(
            (death, job) => job.state === "transferring" && (address(death, job)?.storedAt ?? 0) >= death.since,
        ),
        after: some(
            (death, job) =>
                job.state === "completing" && isNewly(death, job) && address(death, job)?.content === undefined,
        ),
    },
    {
        name: "finish",
        before: some((death, job) => isUnderWay(job) && (address(death, job)?.filledAt ?? 0) >= death.since),
        after: some(
            (death, job) =>
                job.state === "done" && isNewly(death, job) && death.told.get(job.messageId ?? "") !== "ended",
        ),
    },
    {
        name: "fail",
        before: some((death, job) => !isFinal(job.state) && answered(death, job, 404, ["fetch"])),
        after: some(
            (death, job) =>
                job.state === "failed" && isNewly(death, job) && death.journal.marked.has(job.messageId ?? ""),
        ),
    },
    {
        name: "retry",
        before: (death) => called(death, "retry", ({ state }) => state === "failed"),
        after: (death) => called(death, "retry", (job) => job.revived === true && (isDue(job) || isUnderWay(job))),
    },
    {
        name: "cancel",
        before: (death) => called(death, "cancel", ({ state }) => !isFinal(state)),
        after: (death) => called(death, "cancel", ({ state }) => state === "cancelled"),
    },
    {
        name: "postpone",
        before: some(
            (death, job) =>
                isUnderWay(job) &&
                askedFor(death, job).some(({ status, at }) => status === 503 && at > (job.failedAt ?? 0)),
        ),
        after: some((death, { notBefore = 0, failedAt = 0 }) => failedAt >= death.since && notBefore > death.diedAt),
    },
    {
        name: "promote",
        before: some(({ diedAt }, { notBefore }) => notBefore !== undefined && notBefore <= diedAt),
        // Its last try has failed, and no other one has begun.
        after: some(
            (death, job) =>
                isDue(job) &&
                job.error !== undefined &&
                job.revived !== true &&
                !death.isClosing &&
                was(death, job)?.state !== "transferring",
        ),
    },
    {
        name: "park",
        before: some((death, job) => death.isClosing && isUnderWay(job) && askedFor(death, job).length > 0),
        after: some(
            (death, job) =>
                death.isClosing &&
                (isDue(job) || job.state === "reserved") &&
                (job.failedAt ?? 0) < death.since &&
                askedFor(death, job).length > 0,
        ),
    },
    {
        name: "replace",
        before: some(
            (death, job) =>
                isUnderWay(job) &&
                address(death, job)?.isForgotten === true &&
                answered(death, job, 404, ["upload", "complete"]),
        ),
        after: some((death, job) => job.state === "replaced" && isNewly(death, job)),
    },
    {
        name: "follow",
        // Its event's acceptance makes it one.
        before: some(
            (death, job) =>
                job.state === "reserved" &&
                isLed(death, job) &&
                isQueued(death, job) &&
                (isNewly(death, job) || isInRoom(death, job)),
        ),
        after: some((death, job) => job.follows === true && was(death, job)?.follows !== true),
    },
    {
        name: "lead, reuse",
        before: some(
            (death, job) =>
                job.follows === true && ((address(death, job)?.filledAt ?? 0) >= death.since || !isLed(death, job)),
        ),
        // With another message's address: the transfer was another one's.
        after: some(
            (death, job) =>
                job.dedupe !== undefined &&
                (was(death, job)?.follows === true
                    ? job.follows !== true
                    : job.state === "done" && isNewly(death, job) && isShared(death, job)),
        ),
    },
    {
        name: "forget-key",
        before: some(
            (death, job) => job.state === "done" && job.encryption?.file !== undefined && areAllDone(death, job),
        ),
        after: some(
            (death, job) =>
                job.encryption !== undefined &&
                job.encryption.file === undefined &&
                job.state === "done" &&
                was(death, job)?.encryption?.file !== undefined,
        ),
    },
];

function isHeld(job: Job | undefined): boolean {
    return job?.state === "ready" && job.heldFor !== undefined;
}

/** Whether another job transfers its file. */
function isLed(death: Death, { dedupe, id }: Job): boolean {
    return jobs(death).some(
        (other) =>
            dedupe !== undefined &&
            other.dedupe === dedupe &&
            other.id !== id &&
            other.follows !== true &&
            (other.state === "ready" || isUnderWay(other)),
    );
}

function isInRoom(death: Death, { messageId = "" }: Job): boolean {
    return brought(death).has(death.journal.messages.get(messageId)?.transactionId ?? "");
}

function isShared(death: Death, { contentUri, id }: Job): boolean {
    return jobs(death).some((other) => other.id !== id && other.contentUri === contentUri);
}

function areAllDone(death: Death, { messageId }: Job): boolean {
    return jobs(death).every((job) => job.messageId !== messageId || job.state === "done" || job.state === "replaced");
}
