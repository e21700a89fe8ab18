import { asMediaError } from "../../errors.ts";
import type { Logger } from "../../logger.ts";
import type { Job } from "../job.ts";
import type { Transferred } from "../transfer.ts";
import type { StorageBreaker } from "./storage-breaker.ts";

/**
 * One try of a job: past the storage that its homeserver has named where that is in trouble, and what the try has shown
 * of the storage is told to the breaker.
 */
export async function withStorage(
    job: Job,
    { storages, logger }: { readonly storages: StorageBreaker; readonly logger: Logger },
    attempt: (job: Job) => Promise<Transferred>,
): Promise<Transferred> {
    if (job.presigned === undefined) return attempt(job);
    const storageTry = storages.begin(job.presigned.url);
    if (storageTry === undefined) {
        const reason = "the storage has failed again and again";
        logger.info("The homeserver's own upload is used instead of the presigned one", { jobId: job.id, reason });
        return attempt({ ...job, presigned: undefined });
    }
    try {
        const transferred = await attempt(job);
        storageTry.ended(transferred.isStored === true ? "stored" : "unused");
        return transferred;
    } catch (error) {
        storageTry.ended(asMediaError(error).code);
        throw error;
    }
}
