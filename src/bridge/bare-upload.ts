import { MediaError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { type Job, jobWrites, transition } from "../uploads/job.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import { type Reservations, takenWrite } from "./reservations.ts";

export interface BareUploadParts {
    readonly store: Store;
    readonly queue: UploadQueue;
    readonly reservations: Reservations;
    readonly closing: AbortSignal;
    readonly onJob: (job: Job) => void;
}

/**
 * An upload without a message: reserves, journals the job as ready, and returns its MXC URI. A server without
 * `/create` gives the MXC with the upload, so there it takes as long as the upload does.
 */
export async function uploadAlone(job: Job, parts: BareUploadParts): Promise<string> {
    const { store, queue, reservations, closing, onJob } = parts;
    while (true) {
        closing.throwIfAborted();
        const obtained = await reservations.obtain(job.uploader, closing).catch((error: unknown) => {
            if (error instanceof MediaError && error.code === "NOT_SUPPORTED") return undefined;
            throw error;
        });
        if (obtained === undefined) return inOneStep(job, parts);
        if ("blockedForMs" in obtained) {
            await reservations.waitForPlace(job.uploader, obtained.blockedForMs, closing);
            continue;
        }
        const { contentUri, expiresAt, presigned } = obtained.reservation;
        const reserved = transition(job, { type: "reserve", contentUri, expiresAt, presigned }) ?? job;
        const { job: ready } = queue.releaseWrites(reserved);
        await store.commit([...jobWrites(undefined, ready), takenWrite(obtained.reservation)]);
        onJob(ready);
        queue.poke();
        reservations.keepAhead(job.uploader);
        return contentUri;
    }
}

async function inOneStep(job: Job, { store, queue, closing }: BareUploadParts): Promise<string> {
    await store.commit(jobWrites(undefined, job));
    const { contentUri, error } = await queue.runNow(job, closing);
    if (contentUri === undefined) throw new MediaError(error?.code ?? "UPLOAD_REFUSED", { cause: error });
    return contentUri;
}
