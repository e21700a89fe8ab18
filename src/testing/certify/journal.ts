import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MESSAGES, type MessageRecord, REVISE } from "../../bridge/records.ts";
import { RESERVATIONS } from "../../bridge/reservations.ts";
import { LevelStore } from "../../store/level.ts";
import type { Job } from "../../uploads/job.ts";
import { JOBS } from "../../uploads/job-records.ts";
import type { StoreModule } from "./candidates.ts";
import type { Kind } from "./recorder/moments.ts";

/** What a dead process had journaled: evidence on which of its steps were through. */
export interface Journaled {
    readonly messages: ReadonlyMap<string, MessageRecord>;
    readonly jobs: ReadonlyMap<string, Job>;
    /** Addresses kept ahead. */
    readonly reservations: ReadonlySet<string>;
    /** Events that are to be looked at. */
    readonly marks: number;
    readonly spooled: readonly string[];
    /** What the store named as lost. */
    readonly damage: readonly string[];
}

export const NOTHING: Journaled = {
    messages: new Map(),
    jobs: new Map(),
    reservations: new Set(),
    marks: 0,
    spooled: [],
    damage: [],
};

/** Reads a copy, so that the next process finds what the dead one left. */
export async function readJournal(dataDir: string, create: StoreModule | undefined): Promise<Journaled> {
    const spooled = await readdir(join(dataDir, "spool")).catch(() => []);
    const copy = await mkdtemp(join(tmpdir(), "certify-journal-"));
    try {
        const directory = join(copy, "journal");
        const isThere = await cp(join(dataDir, "journal"), directory, { recursive: true }).then(
            () => true,
            () => false,
        );
        if (!isThere) return { ...NOTHING, spooled };
        const damage: string[] = [];
        const store = create?.(directory) ?? new LevelStore(directory);
        await store.open(({ finding }) => void damage.push(finding));
        const messages = new Map<string, MessageRecord>();
        const jobs = new Map<string, Job>();
        const reservations = new Set<string>();
        let marks = 0;
        for await (const [key, record] of store.range({ collection: MESSAGES }))
            messages.set(key, record as unknown as MessageRecord);
        for await (const [key, record] of store.range({ collection: JOBS })) jobs.set(key, record as unknown as Job);
        for await (const [, record] of store.range({ collection: RESERVATIONS }))
            reservations.add(String(record["contentUri"]));
        for await (const _ of store.keys({ collection: REVISE })) marks++;
        await store.close();
        return { messages, jobs, reservations, marks, spooled, damage };
    } finally {
        await rm(copy, { recursive: true, force: true });
    }
}

/**
 * Whether a request is made for the work that a dead process has left to be done at once; undefined where there is none.
 * An address that is asked for says nothing of its file, so any is taken for theirs where one is wanted.
 */
export function workOf({
    messages,
    jobs,
}: Journaled): ((request: { kind: Kind; path: string }) => boolean) | undefined {
    const queued = [...messages.values()].filter(({ state }) => state === "queued");
    const ids = new Set(queued.map(({ id }) => id));
    const due = [...jobs.values()].filter((job) => ids.has(job.messageId ?? "") || isDue(job));
    if (queued.length === 0 && due.length === 0) return undefined;
    const named = [
        ...queued.flatMap(({ roomId, transactionId }) => [
            transactionId,
            `/rooms/${roomId}/messages`,
            `/rooms/${roomId}/state`,
        ]),
        ...due.flatMap(({ contentUri, source }) =>
            [contentUri, source.kind === "http" ? source.url : undefined].map(lastPart),
        ),
    ].filter((name) => name !== undefined);
    const wantsAddress = due.some(({ contentUri }) => contentUri === undefined);
    return ({ kind, path }) =>
        (kind === "create" && wantsAddress) || named.some((name) => decodeURIComponent(path).includes(name));
}

function isDue({ state, notBefore, heldFor, follows }: Job): boolean {
    if (notBefore !== undefined || heldFor !== undefined || follows !== undefined) return false;
    return state === "ready" || state === "transferring" || state === "completing";
}

function lastPart(uri: string | undefined): string | undefined {
    return uri?.slice(uri.lastIndexOf("/"));
}
