import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FINISHED, markedMessage, MESSAGES, OUTBOX, REVISE } from "../../../src/bridge/records.ts";
import { COUNTED } from "../../../src/store/commit-count.ts";
import { LevelStore } from "../../../src/store/level.ts";
import type { StoredRecord } from "../../../src/store/store.ts";
import {
    EXPIRING,
    FOLLOWING,
    fromGroupedKey,
    fromOrderedKey,
    HELD,
    JOBS,
    SCHEDULE,
    WAITING,
} from "../../../src/uploads/job-records.ts";

/** What is in a journal: read from a copy, so that nobody finds it changed. */
export interface Contents {
    readonly messages: ReadonlySet<string>;
    readonly jobs: ReadonlySet<string>;
    /** Messages and jobs that a list or another record names. */
    readonly named: ReadonlySet<string>;
    /** Of the writes whose own record is there. */
    readonly numbers: ReadonlySet<number>;
    /** As COUNT has it, whatever there is to be read. */
    readonly noted: number;
}

export async function contentsOf(journal: string): Promise<Contents> {
    const folder = await mkdtemp(join(tmpdir(), "journal-copy-"));
    const copy = join(folder, "journal");
    try {
        await cp(journal, copy, { recursive: true });
        const noted = Number.parseInt(await readFile(join(copy, "COUNT"), "latin1").catch(() => ""), 10);
        const store = new LevelStore(copy);
        await store.open(() => {});
        const all = async (collection: string): Promise<(readonly [string, StoredRecord])[]> => {
            const found: (readonly [string, StoredRecord])[] = [];
            for await (const entry of store.range({ collection })) found.push(entry);
            return found;
        };
        const keys = async (...collections: string[]): Promise<string[]> =>
            (await Promise.all(collections.map(all))).flat().map(([key]) => key);
        const [messages, jobs] = [await all(MESSAGES), await all(JOBS)];
        const named = [
            ...messages.flatMap(([, record]) => record["jobs"] as string[]),
            ...jobs
                .filter(([, { state }]) => !["done", "failed", "cancelled", "replaced"].includes(String(state)))
                .map(([, record]) => String(record["messageId"])),
            ...(await all(OUTBOX)).map(([, record]) => String(record["id"])),
            ...(await keys(REVISE)).map(markedMessage),
            ...(await keys(FINISHED)).map((key) => fromOrderedKey(key).id.replace(/^\w+ /, "")),
            ...(await keys(SCHEDULE, WAITING, EXPIRING)).map((key) => fromOrderedKey(key).id),
            ...(await keys(HELD, FOLLOWING)).map((key) => fromGroupedKey(key).id),
        ];
        // The store begins another count where something is missing, with a record that says so.
        const written = (await all(COUNTED)).filter(([, { first }]) => first !== true);
        await store.close();
        return {
            messages: new Set(messages.map(([key]) => key)),
            jobs: new Set(jobs.map(([key]) => key)),
            named: new Set(named),
            numbers: new Set(written.map(([, record]) => Number(record["number"]))),
            noted: Number.isNaN(noted) ? 0 : noted,
        };
    } finally {
        await rm(folder, { recursive: true, force: true });
    }
}

/** The messages and jobs whose records are gone. */
export function takenOf(before: Contents, after: Contents): string[] {
    return [
        ...[...before.messages].filter((id) => !after.messages.has(id)),
        ...[...before.jobs].filter((id) => !after.jobs.has(id)),
    ];
}

/**
 * What was taken and can be known, and is not named in the log: the ids of records that others still name, and how many
 * writes are missing at the end and before it.
 */
export function unnamedOf(before: Contents, after: Contents, log: readonly string[], isCountSound: boolean): string[] {
    const text = log.join("\n");
    const ids = takenOf(before, after).filter((id) => after.named.has(id) && !text.includes(JSON.stringify(id)));
    const newest = Math.max(0, ...after.numbers);
    const missing = [...before.numbers].filter((number) => !after.numbers.has(number));
    const atTheEnd = missing.filter((number) => number > newest && number <= before.noted).length;
    const within = missing.filter((number) => number < newest).length;
    return [
        ...ids.map((id) => `the record of ${id}`),
        ...(isCountSound && atTheEnd > 0 && !text.includes(`its last ${atTheEnd} writes are missing`)
            ? [`the last ${atTheEnd} writes`]
            : []),
        ...(within > 0 && !text.includes(`${within} of the ${newest} writes before are missing`)
            ? [`${within} of ${newest} writes`]
            : []),
        ...(!isCountSound && newest > 0 && !text.includes("whether its last writes are there is not known")
            ? ["that the count is gone"]
            : []),
    ];
}
