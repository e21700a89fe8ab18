import { readdir } from "node:fs/promises";
import { isFinal, type Job } from "../../uploads/job.ts";
import { isKnown, type Journaled } from "./journal.ts";
import type { Recorder } from "./recorder/recorder.ts";

/**
 * What is on disk and at the homeserver after the end, and is of no use to anybody.
 * @param unheard Addresses that no journal knows because their process was killed too soon.
 */
export async function leftBehind(
    { media }: Recorder,
    journal: Journaled,
    dataDir: string,
    unheard: ReadonlySet<string>,
): Promise<string[]> {
    const found = journal.spooled.map((name) => {
        const job = journal.jobs.get(name.slice(0, 36));
        return `${name} was left in the spool by ${job === undefined ? "nobody known" : `a job that ${stands(job)}`}`;
    });
    for (const name of await readdir(dataDir))
        if (name !== "journal" && name !== "spool") found.push(`${name} was left in the data folder`);
    for (const { uri, content, isForgotten } of media.addresses)
        if (content === undefined && !isForgotten && !unheard.has(uri) && !isKnown(journal, uri))
            found.push(`${uri} is lost`);
    for (const job of journal.jobs.values())
        if (!isFinal(job.state)) found.push(`a job of ${job.messageId} still ${stands(job)}`);
    for (const { state, contentUri = "" } of journal.jobs.values())
        if (state === "done" && media.find(contentUri)?.content === undefined)
            found.push(`${contentUri} is journaled as done and has no content`);
    return found;
}

function stands({ state, follows, notBefore, heldFor, error }: Job): string {
    const why = [
        follows === true && "behind another job",
        notBefore !== undefined && "waiting",
        heldFor !== undefined && "held",
        error !== undefined && `after ${error.code}`,
    ];
    return `is ${[state, ...why.filter((text) => text !== false)].join(", ")}`;
}
