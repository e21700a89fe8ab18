import type { Store, StoredRecord, Write } from "../../store/store.ts";
import type { Address, Job } from "../../uploads/job.ts";
import { orderedKey } from "../../uploads/job-records.ts";
import { hashOf } from "../records.ts";

/**
 * A file that several messages have in common: a sticker, an avatar, a forwarded photo. Its record says under which
 * MXC it is, or is going to be, and is written in the same step as what it records.
 */
export interface SharedFile {
    readonly key: string;
    readonly uploader: string;
    readonly contentUri: string;
    /** *pending*: one of the jobs that have it in common transfers it. */
    readonly state: "pending" | "uploaded";
    /** The job that transfers it, or did; undefined until the first of them has its turn. */
    readonly leader?: string | undefined;
    readonly size?: number | undefined;
    readonly expiresAt?: number | undefined;
    /** A secret: only while one of the jobs may transfer the file. */
    readonly presigned?: Address["presigned"];
    /** Jobs whose own source gave nothing. */
    readonly takeovers: number;
    /** When it was last known to be there. */
    readonly checkedAt: number;
    /** When a message last used it, to within `USED_PRECISION` of its life. */
    readonly usedAt: number;
}

/** Shared files by their key. */
export const SHARED = "dedupe";
/** Shared files by when they were last used: `<time> <key>`. May name a time that is over. */
export const USED = "dedupe-used";

/** The same file of the same uploader; another transformation makes another file. */
export function sharedKeyOf(uploader: string, dedupeKey: string, transformVersion?: string | number): string {
    return hashOf([uploader, dedupeKey, transformVersion ?? null]);
}

/** Of those whose callers have been given an address of the file that is its no more: they have that one in common. */
export function leftKeyOf(key: string, contentUri: string): string {
    return hashOf([key, contentUri]);
}

export function pendingFile(key: string, uploader: string, address: Address, leader?: string): SharedFile {
    const { contentUri, expiresAt, presigned } = address;
    const now = Date.now();
    return {
        key,
        uploader,
        contentUri,
        expiresAt,
        presigned,
        leader,
        state: "pending",
        takeovers: 0,
        checkedAt: now,
        usedAt: now,
    };
}

/** What a finished job leaves; undefined for one whose file is its own. */
export function uploadedFile({ dedupe, uploader, contentUri, size, id }: Job): SharedFile | undefined {
    if (dedupe === undefined || contentUri === undefined) return undefined;
    const now = Date.now();
    const of = { key: dedupe, uploader, contentUri, size, leader: id };
    return { ...of, state: "uploaded", takeovers: 0, checkedAt: now, usedAt: now };
}

/** The writes that put `after` in place of `before`, or take `before` out. */
export function sharedWrites(before: SharedFile | undefined, after: SharedFile | undefined): Write[] {
    const writes: Write[] = [];
    if (after !== undefined) {
        writes.push({ collection: SHARED, key: after.key, record: after as unknown as StoredRecord });
        if (after.usedAt !== before?.usedAt) writes.push({ collection: USED, key: usedKey(after), record: {} });
    } else if (before !== undefined) writes.push({ collection: SHARED, key: before.key });
    if (before !== undefined && before.usedAt !== after?.usedAt) {
        writes.push({ collection: USED, key: usedKey(before) });
    }
    return writes;
}

export function usedKey({ usedAt, key }: SharedFile): string {
    return orderedKey(usedAt, key);
}

export async function loadShared(store: Store, key: string): Promise<SharedFile | undefined> {
    return (await store.get(SHARED, key)) as SharedFile | undefined;
}
