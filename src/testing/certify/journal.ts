import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AVATARS } from "../../bridge/avatars.ts";
import { markedMessage, MESSAGES, type MessageRecord, REVISE } from "../../bridge/records.ts";
import { RESERVATIONS } from "../../bridge/reservations.ts";
import { LevelStore } from "../../store/level.ts";
import type { Store } from "../../store/store.ts";
import type { Job } from "../../uploads/job.ts";
import { JOBS } from "../../uploads/job-records.ts";
import type { StoreModule } from "./candidates.ts";

/** What a dead process had journaled: evidence on which of its steps were through. */
export interface Journaled {
    readonly messages: ReadonlyMap<string, MessageRecord>;
    readonly jobs: ReadonlyMap<string, Job>;
    /** Addresses kept ahead. */
    readonly reservations: ReadonlySet<string>;
    /** Messages whose events are to be looked at. */
    readonly marked: ReadonlySet<string>;
    /** Pictures that are not set yet: the job of each, by whose it is. */
    readonly pictures: ReadonlyMap<string, string>;
    readonly spooled: readonly string[];
    /** What the store named as lost. */
    readonly damage: readonly string[];
}

export const NOTHING: Journaled = {
    messages: new Map(),
    jobs: new Map(),
    reservations: new Set(),
    marked: new Set(),
    pictures: new Map(),
    spooled: [],
    damage: [],
};

/** A store that does not answer. */
const READ_LIMIT_MS = 60_000;

/**
 * Reads a copy, so that the next process finds what the dead one left.
 *
 * @param signal Gives it up, with the signal's reason.
 */
export async function readJournal(
    dataDir: string,
    create: StoreModule | undefined,
    signal: AbortSignal,
): Promise<Journaled> {
    const spooled = await readdir(join(dataDir, "spool")).catch(() => []);
    const copy = await mkdtemp(join(tmpdir(), "certify-journal-"));
    try {
        const directory = join(copy, "journal");
        const isThere = await cp(join(dataDir, "journal"), directory, { recursive: true }).then(
            () => true,
            () => false,
        );
        if (!isThere) return { ...NOTHING, spooled };
        return { ...(await inTime(() => read(directory, create), signal)), spooled };
    } finally {
        await rm(copy, { recursive: true, force: true });
    }
}

/** Throws what keeps a store from being made, in a folder of its own. How it works is seen when it is killed. */
export async function tryStore(create: StoreModule, signal: AbortSignal): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), "certify-store-"));
    try {
        const store = create(join(folder, "journal"));
        const use = async (): Promise<void> => {
            await store.open(() => {});
            await store.close();
        };
        await inTime(use, signal).catch(() => {});
    } finally {
        await rm(folder, { recursive: true, force: true });
    }
}

async function read(directory: string, create: StoreModule | undefined): Promise<Omit<Journaled, "spooled">> {
    const damage: string[] = [];
    const store = create === undefined ? new LevelStore(directory) : create(directory);
    await store.open(({ finding }) => void damage.push(finding));
    try {
        return { ...(await recordsOf(store)), damage };
    } finally {
        await store.close();
    }
}

async function recordsOf(store: Store): Promise<Omit<Journaled, "spooled" | "damage">> {
    const messages = new Map<string, MessageRecord>();
    const jobs = new Map<string, Job>();
    const reservations = new Set<string>();
    const marked = new Set<string>();
    const pictures = new Map<string, string>();
    for await (const [key, record] of store.range({ collection: MESSAGES }))
        messages.set(key, record as unknown as MessageRecord);
    for await (const [key, record] of store.range({ collection: JOBS })) jobs.set(key, record as unknown as Job);
    for await (const [, record] of store.range({ collection: RESERVATIONS }))
        reservations.add(String(record["contentUri"]));
    for await (const key of store.keys({ collection: REVISE })) marked.add(markedMessage(key));
    for await (const [user, record] of store.range({ collection: AVATARS }))
        pictures.set(user, String(record["jobId"]));
    return { messages, jobs, reservations, marked, pictures };
}

async function inTime<T>(use: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    let giveUp = (): void => {};
    let timer: NodeJS.Timeout | undefined;
    const given = new Promise<never>((_resolve, reject) => {
        giveUp = () => reject(signal.reason as Error);
        signal.addEventListener("abort", giveUp);
        timer = setTimeout(() => reject(new Error(`it did not answer within ${READ_LIMIT_MS} ms`)), READ_LIMIT_MS);
    });
    try {
        return await Promise.race([use(), given]);
    } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", giveUp);
    }
}

export function isKnown({ jobs, reservations }: Journaled, uri: string): boolean {
    return reservations.has(uri) || [...jobs.values()].some(({ contentUri }) => contentUri === uri);
}

/** What a file is called at the network, where its job knows. */
export function nameOf(source: Job["source"]): string | undefined {
    if (source.kind === "http") return source.url;
    const { name } = (source.kind === "connector" ? (source.ref ?? {}) : {}) as { name?: unknown };
    return typeof name === "string" ? `/${name}` : undefined;
}

export function lastPart(uri: string | undefined): string | undefined {
    return uri?.slice(uri.lastIndexOf("/"));
}
