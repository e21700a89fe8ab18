import type { Store } from "../../store/store.ts";
import { isFinal } from "../../uploads/job.ts";
import {
    EXPIRING,
    FOLLOWING,
    fromGroupedKey,
    fromOrderedKey,
    HELD,
    JOBS,
    jobFrom,
    loadJob,
    SCHEDULE,
    WAITING,
} from "../../uploads/job-records.ts";
import { FINISHED, loadMessage, markedMessage, OUTBOX, REVISE } from "../records.ts";

/**
 * Messages and jobs whose records are gone while the journal still names them: a row of a list says whose it is, also where
 * its record was lost. Each of them was there, for whoever forgets a record takes its rows along.
 */
export interface LostRecords {
    readonly messages: ReadonlySet<string>;
    readonly jobs: ReadonlySet<string>;
}

export async function lostRecords(store: Store, signal: AbortSignal): Promise<LostRecords> {
    const [messages, jobs] = [new Set<string>(), new Set<string>()];
    for await (const id of namedMessages(store)) {
        signal.throwIfAborted();
        if (!messages.has(id) && (await loadMessage(store, id)) === undefined) messages.add(id);
    }
    for await (const id of namedJobs(store)) {
        signal.throwIfAborted();
        if (!jobs.has(id) && (await loadJob(store, id)) === undefined) jobs.add(id);
    }
    return { messages, jobs };
}

async function* namedMessages(store: Store): AsyncGenerator<string> {
    yield* ended(store, "message");
    for await (const [, { id }] of store.range({ collection: OUTBOX })) yield String(id);
    for await (const key of store.keys({ collection: REVISE })) yield markedMessage(key);
    for await (const [, record] of store.range({ collection: JOBS })) {
        const { messageId, state } = jobFrom(record);
        // One that is over may be kept for longer than its message.
        if (messageId !== undefined && !isFinal(state)) yield messageId;
    }
}

async function* namedJobs(store: Store): AsyncGenerator<string> {
    yield* ended(store, "job");
    for (const collection of [SCHEDULE, WAITING, EXPIRING])
        for await (const key of store.keys({ collection })) yield fromOrderedKey(key).id;
    for (const collection of [HELD, FOLLOWING])
        for await (const key of store.keys({ collection })) yield fromGroupedKey(key).id;
}

async function* ended(store: Store, kind: "message" | "job"): AsyncGenerator<string> {
    for await (const key of store.keys({ collection: FINISHED })) {
        const { id } = fromOrderedKey(key);
        if (id.startsWith(`${kind} `)) yield id.slice(kind.length + 1);
    }
}
