/**
 * The order of work, as one number per job: the time at which it is due. It is fixed when the job becomes ready, so
 * the journal can keep the queue sorted, and waiting alone brings a job forward (aging): a small file overtakes a
 * large one only if it came no later than the large one's handicap.
 */
export interface Urgency {
    readonly readyAt: number;
    /** Bytes; undefined where unknown. */
    readonly size: number | undefined;
    readonly backfill: boolean;
    readonly expiresAt: number | undefined;
    /** No other address can come in place of the one it has. @default false */
    readonly isBound?: boolean;
    /** @default false */
    readonly isThumbnail?: boolean;
}

const SECOND = 1000;
const HOUR = 3600 * SECOND;
/** Handicap per MiB, up to the cap. */
const PER_MEBIBYTE = SECOND;
const LARGEST_HANDICAP = 600 * SECOND;
const UNKNOWN_SIZE_HANDICAP = 30 * SECOND;
/**
 * Live files go before history however long that has waited: behind a backlog of days, nothing new would be seen for
 * hours. Its addresses are replaced where they end meanwhile; where that cannot be, it is due before that.
 */
const BACKFILL_HANDICAP = 100 * 365 * 24 * HOUR;
/** However large or old: an hour before its reservation ends a job is due, or with a quarter of a short life left. */
const BEFORE_EXPIRY = HOUR;

/**
 * A thumbnail's start over what else is due: what a room looks at while the large file comes. More than the longest
 * handicap and than any two addresses of one message differ in their ends.
 */
const THUMBNAIL_START = HOUR;

/** Thumbnails and the like stand below `info`. */
export function isThumbnail(at: readonly string[] = []): boolean {
    return at[0] === "info" || at.at(-2) === "info";
}

export function dueTime(urgency: Urgency): number {
    const { readyAt, size, backfill, expiresAt, isBound = false, isThumbnail = false } = urgency;
    const bySize =
        size === undefined ? UNKNOWN_SIZE_HANDICAP : Math.min(LARGEST_HANDICAP, (size / 2 ** 20) * PER_MEBIBYTE);
    const inTurn = readyAt + bySize + (backfill ? BACKFILL_HANDICAP : 0);
    const beforeEnd =
        expiresAt === undefined || (backfill && !isBound)
            ? inTurn
            : expiresAt - Math.min(BEFORE_EXPIRY, Math.max(0, expiresAt - readyAt) / 4);
    return Math.round(Math.min(inTurn, beforeEnd)) - (isThumbnail ? THUMBNAIL_START : 0);
}
