import type { Job } from "../../uploads/job.ts";
import { isLargeForCertain } from "../../uploads/places.ts";
import type { Journaled } from "./journal.ts";
import type { PlannedMessage } from "./messages.ts";
import type { Recorder } from "./recorder/recorder.ts";

/**
 * Which steps the kills have hit, before and after the write that makes them last. It is told from outside: by what the
 * dead process had done on the wire and said, and by what its journal says of the same thing.
 */
export interface Death {
    readonly recorder: Recorder;
    readonly journal: Journaled;
    /** What the process before it had left. */
    readonly earlier: Journaled;
    /** What it said of each message: its last word. */
    readonly told: ReadonlyMap<string, string>;
    readonly planned: ReadonlyMap<string, PlannedMessage>;
    /** How many failures the recorder had shown to the processes before it. */
    readonly failuresBefore: number;
    /** Addresses that this process had asked for. */
    readonly created: readonly string[];
}

/** One step: what takes effect, and the write that is owed for it. */
interface Step {
    readonly name: string;
    /** It has taken effect, or was about to, and is not journaled. */
    readonly before: (death: Death) => boolean;
    /** It is journaled, and nobody has acted on it. */
    readonly after: (death: Death) => boolean;
}

const jobs = ({ journal }: Death): Job[] => [...journal.jobs.values()];
const ofMessage = ({ journal }: Death, { messageId = "" }: Job) => journal.messages.get(messageId);
const isQueued = (death: Death, job: Job): boolean => ofMessage(death, job)?.state === "queued";
const wasIn = ({ earlier }: Death, { id, state }: Job): boolean => earlier.jobs.get(id)?.state === state;
const content = ({ recorder }: Death, { contentUri }: Job) => recorder.media.find(contentUri)?.content;

/** The ids of the messages that are in their room. */
function inRooms({ recorder, planned }: Death): Set<string> {
    const rooms = new Set([...planned.values()].map(({ room }) => room));
    return new Set([...rooms].flatMap((room) => recorder.rooms.events(room).map(({ transactionId }) => transactionId)));
}

export const STEPS: readonly Step[] = [
    {
        name: "message journaled",
        before: ({ told, journal }) => [...told.keys()].some((id) => !journal.messages.has(id)),
        after: ({ journal, earlier }) =>
            [...journal.messages.values()].some(({ id, state }) => state === "queued" && !earlier.messages.has(id)),
    },
    {
        name: "bytes handed over",
        before: ({ journal }) => journal.spooled.some((name) => !journal.jobs.has(name.slice(0, 36))),
        after: (death) => jobs(death).some((job) => job.source.kind === "spool" && isQueued(death, job)),
    },
    {
        name: "reserve",
        before: ({ created, journal }) => created.some((uri) => !isKnown(journal, uri)),
        after: (death) => jobs(death).some((job) => job.state === "reserved" && isQueued(death, job)),
    },
    {
        name: "encrypt, prepare",
        before: (death) => jobs(death).some((job) => job.state === "transferring" && isQueued(death, job)),
        after: (death) => jobs(death).some((job) => job.encryption?.file !== undefined && isQueued(death, job)),
    },
    {
        name: "event accepted, release",
        before: (death) => {
            const ids = inRooms(death);
            return [...death.journal.messages.values()].some(
                ({ state, transactionId }) => state === "queued" && ids.has(transactionId),
            );
        },
        after: ({ journal, earlier, told }) =>
            [...journal.messages.values()].some(
                ({ id, state }) =>
                    state === "sent" && earlier.messages.get(id)?.state !== "sent" && told.get(id) === "said",
            ),
    },
    {
        name: "begin",
        before: (death) => jobs(death).some(({ state, follows }) => state === "ready" && follows !== true),
        after: (death) =>
            jobs(death).some((job) => job.state === "transferring" && !isQueued(death, job) && !content(death, job)),
    },
    {
        name: "large file, in the thread",
        before: (death) =>
            jobs(death).some(
                (job) =>
                    isLargeForCertain(job) &&
                    job.state === "transferring" &&
                    !isQueued(death, job) &&
                    !content(death, job),
            ),
        after: (death) =>
            jobs(death).some((job) => isLargeForCertain(job) && job.state === "done" && !wasIn(death, job)),
    },
    {
        name: "stored",
        before: (death) =>
            jobs(death).some((job) => job.state === "transferring" && death.recorder.media.isStored(job.contentUri)),
        after: (death) => jobs(death).some((job) => job.state === "completing" && !content(death, job)),
    },
    {
        name: "finish",
        before: (death) =>
            jobs(death).some(
                (job) =>
                    (job.state === "transferring" || job.state === "completing") && content(death, job) !== undefined,
            ),
        after: (death) =>
            jobs(death).some(
                (job) => job.state === "done" && !wasIn(death, job) && death.told.get(job.messageId ?? "") !== "ended",
            ),
    },
    {
        name: "fail",
        before: (death) =>
            jobs(death).some((job) => (job.state === "transferring" || job.state === "ready") && isMissing(job)),
        after: (death) =>
            death.journal.marks > 0 && jobs(death).some((job) => job.state === "failed" && !wasIn(death, job)),
    },
    {
        name: "edit journaled",
        before: ({ journal }) => journal.marks > 0,
        after: ({ journal, planned }) =>
            [...journal.messages.values()].some(({ id, state }) => state === "queued" && !planned.has(id)),
    },
    {
        name: "edit accepted",
        before: (death) => {
            const ids = inRooms(death);
            return [...death.journal.messages.values()].some(
                ({ id, state, transactionId }) =>
                    state === "queued" && !death.planned.has(id) && ids.has(transactionId),
            );
        },
        after: ({ journal, earlier, planned }) =>
            [...journal.messages.values()].some(
                ({ id, state }) => state === "sent" && !planned.has(id) && earlier.messages.get(id)?.state !== "sent",
            ),
    },
    {
        name: "replace",
        before: (death) =>
            jobs(death).some(
                (job) =>
                    job.state === "transferring" && death.recorder.media.find(job.contentUri)?.isForgotten === true,
            ),
        after: (death) => jobs(death).some((job) => job.state === "replaced" && !wasIn(death, job)),
    },
    {
        name: "postpone",
        before: (death) => death.recorder.failures > death.failuresBefore && !jobs(death).some(isPostponed),
        after: (death) => jobs(death).some(isPostponed),
    },
    {
        name: "follow, lead, reuse",
        before: (death) => jobs(death).some((job) => job.state === "ready" && job.follows === true),
        // With another message's address: the transfer was another one's.
        after: (death) =>
            jobs(death).some(
                (job) => job.state === "done" && job.dedupe !== undefined && !wasIn(death, job) && isShared(death, job),
            ),
    },
    {
        name: "forget-key",
        before: (death) => jobs(death).some((job) => job.state === "done" && job.encryption?.file !== undefined),
        after: (death) =>
            jobs(death).some(
                (job) =>
                    job.encryption !== undefined &&
                    job.encryption.file === undefined &&
                    job.state === "done" &&
                    death.earlier.jobs.get(job.id)?.encryption?.file !== undefined,
            ),
    },
];

export function isKnown({ jobs, reservations }: Journaled, uri: string): boolean {
    return reservations.has(uri) || [...jobs.values()].some(({ contentUri }) => contentUri === uri);
}

function isShared(death: Death, { contentUri, id }: Job): boolean {
    return jobs(death).some((other) => other.id !== id && other.contentUri === contentUri);
}

function isPostponed({ notBefore }: Job): boolean {
    return notBefore !== undefined;
}

function isMissing({ source }: Job): boolean {
    return source.kind === "http" && source.url.includes("/missing/");
}
