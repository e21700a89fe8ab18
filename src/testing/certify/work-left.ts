import type { Job } from "../../uploads/job.ts";
import type { Deed } from "./deeds.ts";
import { type Journaled, lastPart, nameOf } from "./journal.ts";
import type { Kind } from "./recorder/moments.ts";

/** The work that a dead process has left, and by what requests the next one is seen to have taken it up. */

/**
 * Whether a request is made for the work that a dead process has left to be done at once; undefined where there is none.
 * An address that is asked for says nothing of its file, so any is taken for theirs where one is wanted.
 *
 * @param deeds What the next process is told to do: where that takes something back, it may come before its first request.
 */
export function workOf(
    { messages, jobs, pictures }: Journaled,
    deeds: readonly Deed[],
): ((request: { kind: Kind; path: string }) => boolean) | undefined {
    const all = [...jobs.values()];
    const redacted = new Set(deeds.flatMap((deed) => (deed.does === "redact" ? [deed.of.id] : [])));
    // Its edits go with it.
    const queued = [...messages.values()].filter(
        ({ id, state, edits = id }) => state === "queued" && !redacted.has(id) && !redacted.has(edits),
    );
    const ids = new Set(queued.map(({ id }) => id));
    // Whose file another job has brought, ends without a request.
    const brought = new Set(all.flatMap(({ state, dedupe }) => (state === "done" && dedupe ? [dedupe] : [])));
    const due = all.filter(
        (job) =>
            (ids.has(job.messageId ?? "") || isDue(job)) &&
            !brought.has(job.dedupe ?? "") &&
            !deeds.some((deed) => isTakenBack(job, deed, pictures)),
    );
    if (queued.length === 0 && due.length === 0) return undefined;
    const named = [
        ...queued.flatMap(({ roomId, transactionId }) => [
            transactionId,
            `/rooms/${roomId}/messages`,
            `/rooms/${roomId}/state`,
        ]),
        ...due.flatMap(({ contentUri, source }) => [contentUri, nameOf(source)].map(lastPart)),
    ].filter((name) => name !== undefined);
    // From the homeserver, or with its bytes.
    const wantsAddress = due.some(({ contentUri }) => contentUri === undefined);
    return ({ kind, path }) =>
        (wantsAddress && (kind === "create" || (kind === "upload" && path.endsWith("/upload")))) ||
        named.some((name) => decodeURIComponent(path).includes(name));
}

function isTakenBack({ id, messageId, at }: Job, deed: Deed, pictures: Journaled["pictures"]): boolean {
    if (deed.does === "picture") return pictures.get(deed.user) === id;
    if (deed.of.id !== messageId) return false;
    return deed.does === "redact" || (deed.does === "cancel" && String(deed.at) === String(at));
}

/** What was held for its source is due as well: which source was down is forgotten with the process. */
function isDue({ state, notBefore, follows }: Job): boolean {
    if (notBefore !== undefined || follows !== undefined) return false;
    return state === "ready" || state === "transferring" || state === "completing";
}
