import type { Store } from "../../store/store.ts";
import type { Job } from "../../uploads/job.ts";
import { JOBS, jobFrom, jobWrites, loadJob } from "../../uploads/job-records.ts";
import type { KeyedLocks } from "../../uploads/keyed-locks.ts";
import { transition } from "../../uploads/transition.ts";

/**
 * Addresses that two jobs have, where the step is lost in which the first gave its own back: it was cancelled, or its
 * message refused, and another job has taken the address since. The second's upload would find a file there and take it
 * for its own, so one message would show the other's file. The one whose event is not out may have any other address.
 */

/** Gives up such addresses of jobs that wait for their event; returns how many. What is shared on purpose stays. */
export async function giveUpRepeated(
    { store, jobLocks }: { readonly store: Store; readonly jobLocks: KeyedLocks },
    signal: AbortSignal,
): Promise<number> {
    const waiting = new Map<string, string[]>();
    for await (const job of jobsOf(store, signal)) {
        const { contentUri, id } = job;
        if (contentUri !== undefined && mayHaveAnother(job))
            waiting.set(contentUri, [...(waiting.get(contentUri) ?? []), id]);
    }
    if (waiting.size === 0) return 0;
    const repeated = new Set<string>();
    for await (const { contentUri = "", id } of jobsOf(store, signal)) {
        const others = (waiting.get(contentUri) ?? []).filter((other) => other !== id);
        for (const other of others) repeated.add(other);
    }
    for (const id of repeated) await jobLocks.hold([id], () => giveUp(store, id));
    return repeated.size;
}

async function* jobsOf(store: Store, signal: AbortSignal): AsyncGenerator<Job> {
    for await (const [, record] of store.range({ collection: JOBS })) {
        signal.throwIfAborted();
        yield jobFrom(record);
    }
}

function mayHaveAnother({ state, messageId, dedupe }: Job): boolean {
    return state === "reserved" && messageId !== undefined && dedupe === undefined;
}

/** As one that has run out: its message's lane gets it another before its event. */
async function giveUp(store: Store, id: string): Promise<void> {
    const job = await loadJob(store, id);
    if (job?.contentUri === undefined || !mayHaveAnother(job)) return;
    const after = transition(job, { type: "reserve", contentUri: job.contentUri, expiresAt: 1 });
    if (after !== undefined) await store.commit(jobWrites(job, after));
}
