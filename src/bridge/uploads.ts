import type { Job } from "../uploads/job.ts";
import type { Parts } from "./assembly.ts";
import { uploadAlone } from "./bare-upload.ts";
import { uploadAtHand } from "./dedupe/handles.ts";
import { sharedKeyOf } from "./dedupe/shared-file.ts";
import { handleOf } from "./job-info.ts";
import type { MediaSource, PendingUpload } from "./message.ts";
import type { UploadOptions } from "./message-check.ts";

/** The calls of `upload()`: files without a message of ours. */
export interface UploadsParts
    extends Pick<
        Parts,
        | "store"
        | "queue"
        | "reservations"
        | "addresses"
        | "lookup"
        | "files"
        | "backlog"
        | "ends"
        | "registered"
        | "uploaderOf"
    > {
    readonly closing: AbortSignal;
    /** Told about each job that was changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

export class Uploads {
    readonly #parts: UploadsParts;

    constructor(parts: UploadsParts) {
        this.#parts = parts;
    }

    /**
     * @param announce Awaited before the upload is journaled, or with the address where the file is there already. Whoever
     *   gives it takes the address from `done`.
     * @param family What the file has to be, where the options name no type.
     */
    async begin(
        source: MediaSource,
        { userId, backfill = false, dedupeKey, transformVersion, ...known }: UploadOptions,
        announce?: (jobId: string, contentUri?: string) => Promise<void>,
        family?: string,
    ): Promise<PendingUpload> {
        const { files, backlog, lookup } = this.#parts;
        const uploader = this.#parts.uploaderOf(userId);
        const dedupe = dedupeKey === undefined ? undefined : sharedKeyOf(uploader, dedupeKey, transformVersion);
        const file = dedupe === undefined ? undefined : await lookup.uploaded(dedupe);
        if (file !== undefined) {
            const atHand = uploadAtHand(file, source, known);
            await announce?.(atHand.jobId, atHand.contentUri);
            return atHand;
        }
        backlog.enter(0, 1);
        const asGiven = { mimetype: undefined, filename: undefined, size: undefined, ...known };
        const isGivenOut = announce === undefined ? true : undefined;
        // Not awaited in here: a frame that waits for an address would keep the file's bytes in memory.
        return this.#journaled(
            files.newJob(source, { ...asGiven, uploader, backfill, dedupe, family, isGivenOut }),
            announce,
        );
    }

    async #journaled(making: Promise<Job>, announce?: (jobId: string) => Promise<void>): Promise<PendingUpload> {
        const { files, backlog, ends } = this.#parts;
        let spooled: Job[] = [];
        let isJournaled = false;
        const onJob = (changed: Job): void => {
            isJournaled = true;
            this.#parts.onJob(changed);
        };
        try {
            const job = await making;
            spooled = [job];
            await announce?.(job.id);
            return handleOf(ends, job.id, await uploadAlone(job, { ...this.#parts, onJob }));
        } catch (error) {
            // Once it is journaled its end counts it out, and the next start may need its bytes.
            if (!isJournaled) {
                backlog.add(0, -1);
                await files.discard(spooled);
            }
            throw error;
        }
    }
}
