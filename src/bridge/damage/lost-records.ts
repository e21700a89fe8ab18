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
    SCHEDULE,
    WAITING,
} from "../../uploads/job-records.ts";
import { FINISHED, markedMessage, MESSAGES, OUTBOX, REVISE } from "../records.ts";

/**
 * Messages and jobs whose records are gone while the journal still names them: a row of a list says whose it is, also where
 * its record was lost. Each of them was there, for whoever forgets a record takes its rows along.
 */
export interface LostRecords {
    readonly messages: ReadonlySet<string>;
    readonly jobs: ReadonlySet<string>;
}

export async function lostRecords(store: Store, signal: AbortSignal): Promise<LostRecords> {
    const gone = async (named: AsyncIterable<Named>, collection: string): Promise<Set<string>> => {
        const ids = new Set<string>();
        for await (const { id, by } of named) {
            signal.throwIfAborted();
            if (ids.has(id) || (await store.get(collection, id)) !== undefined) continue;
            // Lists are read as they were: what was forgotten since is no longer named.
            if (await isThere(store, ...by)) ids.add(id);
        }
        return ids;
    };
    return { messages: await gone(namedMessages(store), MESSAGES), jobs: await gone(namedJobs(store), JOBS) };
}

interface Named {
    readonly id: string;
    /** What names it: collection and key. */
    readonly by: readonly [string, string];
}

async function* namedMessages(store: Store): AsyncGenerator<Named> {
    yield* ended(store, "message");
    for await (const [key, { id }] of store.range({ collection: OUTBOX })) yield { id: String(id), by: [OUTBOX, key] };
    yield* rows(store, REVISE, markedMessage);
    for await (const [key, record] of store.range({ collection: JOBS })) {
        const { messageId, state } = jobFrom(record);
        // One that is over may be kept for longer than its message.
        if (messageId !== undefined && !isFinal(state)) yield { id: messageId, by: [JOBS, key] };
    }
}

async function* namedJobs(store: Store): AsyncGenerator<Named> {
    yield* ended(store, "job");
    for (const collection of [SCHEDULE, WAITING, EXPIRING])
        yield* rows(store, collection, (key) => fromOrderedKey(key).id);
    for (const collection of [HELD, FOLLOWING]) yield* rows(store, collection, (key) => fromGroupedKey(key).id);
}

async function* ended(store: Store, kind: "message" | "job"): AsyncGenerator<Named> {
    for await (const { id, by } of rows(store, FINISHED, (key) => fromOrderedKey(key).id))
        if (id.startsWith(`${kind} `)) yield { id: id.slice(kind.length + 1), by };
}

async function* rows(store: Store, collection: string, idOf: (key: string) => string): AsyncGenerator<Named> {
    for await (const key of store.keys({ collection })) yield { id: idOf(key), by: [collection, key] };
}

/** By its key, for a row's record may be damaged as well. */
async function isThere(store: Store, collection: string, key: string): Promise<boolean> {
    for await (const first of store.keys({ collection, prefix: key, limit: 1 })) return first === key;
    return false;
}
