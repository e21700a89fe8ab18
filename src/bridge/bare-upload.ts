import { MediaError } from "../errors.ts";
import { unlessAborted } from "../linked-abort.ts";
import type { Store } from "../store/store.ts";
import type { Job } from "../uploads/job.ts";
import { jobWrites } from "../uploads/job-records.ts";
import type { UploadQueue } from "../uploads/queue.ts";
import { released } from "../uploads/release.ts";
import type { Addresses } from "./dedupe/addresses.ts";
import type { JobEnds } from "./job-info.ts";
import type { Registered } from "./registered.ts";
import type { Reservations } from "./reservations.ts";

export interface BareUploadParts {
    readonly store: Store;
    readonly queue: UploadQueue;
    readonly reservations: Reservations;
    readonly addresses: Addresses;
    readonly ends: JobEnds;
    readonly registered: Registered;
    readonly closing: AbortSignal;
    /** Told about each job that was changed, after it is journaled. */
    readonly onJob: (job: Job) => void;
}

/**
 * An upload without a message: reserves, journals the job as ready, and returns its MXC URI. A server without
 * `/create` gives the MXC with the upload, so there it takes as long as the upload does; so it does where the user has been
 * at its limit of addresses for a while.
 */
export async function uploadAlone(job: Job, parts: BareUploadParts): Promise<string> {
    const obtained = await withAddress(job, parts).catch(async (error: unknown) => {
        // Whoever waits for the file and not for an address (see `isGivenOut`) counts on the next start when it hears CLOSED.
        if (parts.closing.aborted && job.isGivenOut !== true) await journal(job, parts);
        throw error;
    });
    if (typeof obtained === "string") return obtained;
    return inOneStep(job, parts, obtained.mayOthers);
}

/** The address with which it is journaled; else only the upload gives one, and whether `mayOthers` with the same file get one otherwise. */
async function withAddress(job: Job, parts: BareUploadParts): Promise<string | { readonly mayOthers: boolean }> {
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
        if (obtained === undefined || ("isLasting" in obtained && obtained.isLasting)) {
            await parts.registered.ensure(job.uploader);
            return { mayOthers: obtained !== undefined };
        }
        if ("blockedForMs" in obtained) {
            await reservations.waitForPlace(job.uploader, obtained.blockedForMs, closing);
            continue;
        }
        const ready = await addresses.assign(job, obtained.reservation, onwards);
        if (ready !== undefined) return begun(ready);
    }
}

async function inOneStep(job: Job, parts: BareUploadParts, mayOthers: boolean): Promise<string> {
    const { queue, addresses, ends, closing } = parts;
    let journaled: Promise<void> | undefined;
    const upload = async () => {
        await (journaled ??= journal(job, parts));
        addresses.entered(job);
        queue.poke();
        return ends.of(job.id);
    };
    // A message that could have an address does not wait for all the tries of this one.
    const turn = mayOthers ? upload() : addresses.alone(job, upload);
    try {
        const { contentUri = "" } = await unlessAborted(turn, [closing]);
        return contentUri;
    } catch (error) {
        // Also one that still waits for another with the same file: whoever hears CLOSED counts on the next start.
        if (closing.aborted) await (journaled ??= journal(job, parts));
        throw error;
    }
}

/** In the queue's lists, not waited for like a message's: after a crash nobody else would come back to it. */
async function journal(job: Job, { store, onJob }: BareUploadParts): Promise<void> {
    const ready = released(job) ?? job;
    await store.commit(jobWrites(undefined, ready));
    onJob(ready);
}
