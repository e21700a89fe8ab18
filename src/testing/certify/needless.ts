import { isDeed, type Planned } from "./deeds.ts";
import { jobsOf } from "./evidence.ts";
import type { Journaled } from "./journal.ts";
import { bytesOf, NO_LINK, type PlannedFile } from "./messages.ts";
import type { RecordedRequest, Recorder } from "./recorder/recorder.ts";
import type { ExpectedDeed } from "./sequels.ts";

/** Uploads that nothing explains: no kill, no lost answer. */

/** Where the recorder and its count of uploads stood when a process came to live. */
export interface Before {
    readonly at: number;
    readonly refilled: number;
    readonly doubled: number;
}

export function before({ media }: Recorder): Before {
    return { at: Date.now(), refilled: media.refilled.length, doubled: media.doubled.length };
}

/**
 * What one process uploaded although it, or its journal, knew that it is there.
 * @param earlier What the process had found.
 */
export function uploadedAgain(
    { media }: Recorder,
    { at, refilled, doubled }: Before,
    earlier: Journaled,
    said: readonly Planned[],
): string[] {
    const done = new Set([...earlier.jobs.values()].flatMap((job) => (job.state === "done" ? [job.contentUri] : [])));
    const again = media.refilled
        .slice(refilled)
        .filter((uri) => done.has(uri))
        .map((uri) => `${uri} was uploaded again, and its job was journaled as done`);
    const names = said
        .flatMap(filesOf)
        .filter(isOwn)
        .map(({ name }) => name);
    const twice = media.doubled
        .slice(doubled)
        // Whoever was told of it in this life had no reason either.
        .filter(({ first }) => done.has(first.uri) || (first.confirmedAt ?? 0) >= at)
        .filter(({ uri }) => names.some((name) => media.find(uri)?.content?.equals(bytesOf(name)) === true))
        .map(({ uri, first }) => `${uri} got the same file as ${first.uri}, which was known to be there`);
    return [...again, ...twice];
}

/** What was uploaded after `cancel()` had said that it never will be. */
export function uploadedAfterCancel(
    { requests }: Recorder,
    deeds: readonly ExpectedDeed[],
    journal: Journaled,
): string[] {
    return deeds.flatMap(({ deed, end, endedAt = Number.POSITIVE_INFINITY }) => {
        if (deed.does !== "cancel" || end !== "cancelled") return [];
        // The address of one whose message was never sent is another file's.
        const isShared = (uri: string | undefined): boolean =>
            [...journal.jobs.values()].filter(({ contentUri }) => contentUri === uri).length > 1;
        const own = jobsOf(deed, journal).filter(({ contentUri }) => !isShared(contentUri));
        return own.flatMap(({ contentUri }) => {
            const id = contentUri?.split("/").at(-1);
            const late = requests.find(
                ({ kind, path, at }) =>
                    (kind === "upload" || kind === "storage") && path.endsWith(`/${id}`) && at > endedAt,
            );
            return late === undefined ? [] : [`${contentUri} was uploaded after ${deed.id} had cancelled it`];
        });
    });
}

/** Files that were read by a link which nothing but their dead process knew: it is to be journaled before. */
export function unjournaledLinks(requests: readonly RecordedRequest[], { jobs }: Journaled): string[] {
    return [...jobs.values()].flatMap(({ source, state, contentUri }) => {
        if (source.kind !== "connector" || source.connector !== "network" || state !== "transferring") return [];
        const { name, link } = source.ref as { name: string; link: string };
        const id = contentUri?.split("/").at(-1);
        const isRead = requests.some(
            ({ kind, path, status }) =>
                (kind === "upload" || kind === "storage") && status === 200 && path.endsWith(`/${id}`),
        );
        return isRead && link === NO_LINK ? [`${name} was read by a link that was not journaled`] : [];
    });
}

function filesOf(item: Planned): readonly PlannedFile[] {
    if (!isDeed(item)) return item.files;
    return item.does === "picture" ? [item.file] : [];
}

/** Not one that several messages have, each for itself or with one address. */
function isOwn({ kind }: PlannedFile): boolean {
    return kind !== "connector" && kind !== "shared";
}
