import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { causedBy, type Job } from "../uploads/job.ts";
import { jobWrites } from "../uploads/job-records.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import { released } from "../uploads/release.ts";
import type { Addresses } from "./dedupe/addresses.ts";
import type { Reservations } from "./reservations.ts";

export interface BareUploadParts {
    readonly store: Store;
    readonly queue: UploadQueue;
    readonly reservations: Reservations;
    readonly addresses: Addresses;
    readonly closing: AbortSignal;
    readonly onJob: (job: Job) => void;
}

/**
 * An upload without a message: reserves, journals the job as ready, and returns its MXC URI. A server without
 * `/create` gives the MXC with the upload, so there it takes as long as the upload does.
 */
export async function uploadAlone(job: Job, parts: BareUploadParts): Promise<string> {
    const { queue, reservations, addresses, closing, onJob } = parts;
    const onwards = (reserved: Job): Job => released(reserved) ?? reserved;
    const begun = (ready: Job): string => {
        onJob(ready);
        queue.poke();
        reservations.keepAhead(job.uploader);
        return ready.contentUri ?? "";
    };
    while (true) {
        closing.throwIfAborted();
        const shared = await addresses.share(job, onwards);
        if (shared !== undefined) return begun(shared);
        const obtained = await reservations.obtain(job.uploader, closing).catch((error: unknown) => {
            if (error instanceof MediaError && error.code === "NOT_SUPPORTED") return undefined;
            throw error;
        });
        if (obtained === undefined) return inOneStep(job, parts);
        if ("blockedForMs" in obtained) {
            await reservations.waitForPlace(job.uploader, obtained.blockedForMs, closing);
            continue;
        }
        const ready = await addresses.assign(job, obtained.reservation, onwards);
        if (ready !== undefined) return begun(ready);
    }
}

async function inOneStep(job: Job, { store, queue, addresses, closing }: BareUploadParts): Promise<string> {
    await store.commit(jobWrites(undefined, job));
    const { contentUri, error } = await addresses.alone(job, () => queue.runNow(job, closing));
    if (contentUri === undefined) throw new MediaError(error?.code ?? "UPLOAD_REFUSED", causedBy(error));
    return contentUri;
}
