/**
 * When a reserved address is no longer good enough. Decisions only: who acts on them is bridge/replacement.ts.
 *
 * Both margins shrink with a short life, so that an address is not given up as soon as it was made. The life is taken
 * from when the job came into being, which is about when its address was made.
 */
export interface Lifetime {
    readonly createdAt: number;
    /** When the homeserver takes the address back; undefined where it does not say. */
    readonly expiresAt?: number | undefined;
}

/** How long before its end the address of a job that still waits is replaced, at most. */
export const AHEAD_MS = 5 * 60_000;
/** With less left than this at its turn, the end would come while the source is still being opened. */
const AT_ITS_TURN_MS = 60_000;

/** When an address that still waits for its turn is to be replaced; undefined where its end is not known. */
export function renewAt({ createdAt, expiresAt }: Lifetime): number | undefined {
    return expiresAt === undefined ? undefined : expiresAt - Math.min(AHEAD_MS, lifeOf(createdAt, expiresAt) / 5);
}

/** Whether a transfer that begins now could come too late. */
export function runsOut({ createdAt, expiresAt }: Lifetime, now: number): boolean {
    return expiresAt !== undefined && expiresAt - now <= Math.min(AT_ITS_TURN_MS, lifeOf(createdAt, expiresAt) / 10);
}

function lifeOf(createdAt: number, expiresAt: number): number {
    return Math.max(0, expiresAt - createdAt);
}
