import { createHash } from "node:crypto";
import type { ErrorCode, MediaError } from "../errors.ts";
import type { Job } from "./job.ts";
import { retryDelay } from "./retry.ts";
import type { SourceDescription } from "./sources/source.ts";
import { steadyNow } from "./steady-clock.ts";

/**
 * Which source may be asked for another file now. A source is a connector, or an origin of HTTP; files of this machine
 * and the spool are none. Two things close it: the operator's limits, and its own trouble. When it answers 429 or 5xx,
 * cannot be reached or takes too long, it is left alone for a while, longer each time, and then tried with one file: the
 * others wait instead of failing one after the other and using up their tries. Any sensible answer opens it again: a
 * refusal, or a file's first bytes, for a long file is not to keep the others waiting. But first bytes alone do not
 * shorten the next pause, or a source that breaks each file off would hardly have one; that takes a refusal or a whole file.
 *
 * All of this is in memory and about now; after a restart every source is open.
 */
export interface SourceLimit {
    /** Transfers at once. @default as many as `concurrency` */
    readonly concurrency?: number | undefined;
    /** Transfers begun in a second, evenly spaced; 0.2 is one in five seconds. @default unlimited */
    readonly perSecond?: number | undefined;
}

/** By a connector's name or an origin (`https://files.example.org`); `default` stands for each that is not named. */
export type SourceLimits = Readonly<Record<string, SourceLimit>>;

/** Sources whose state is remembered; one beyond them is asked as if it had neither limits nor trouble. */
const MAX_SOURCES = 1000;
/** How long a source that had trouble, and was not asked since, is remembered for it. */
const REMEMBER_TROUBLE_MS = 10 * 60_000;

const TROUBLE = new Set<ErrorCode>(["SOURCE_RATE_LIMITED", "SOURCE_UNAVAILABLE", "SOURCE_TIMEOUT"]);

/** A place at a source. Leaves it; false where that was done before, or there was none to take. */
export type Place = () => boolean;

interface KeptPlace {
    readonly key: string | undefined;
    readonly place: Place;
    readonly letGo: () => void;
}

interface State {
    running: number;
    /** Trouble in a row, with no whole file nor refusal between. */
    troubles: number;
    /** Whether it has answered since the last one. */
    hasAnswered: boolean;
    /** The place of the one that may try it until it has; those from before the trouble go on beside. */
    trial: Place | undefined;
    pausedUntil: number;
    /** When the rate allows another one. */
    nextStartAt: number;
}

/** The source's key in the journal and here; undefined for what needs no sparing. Free of blanks, at most 256 characters. */
export function sourceKeyOf({ source }: Pick<Job, "source">): string | undefined {
    const name = sourceName(source);
    return name === undefined ? undefined : sourceKey(name);
}

/** False for a job whose bytes have left the source already. */
export function asksItsSource({ state }: Pick<Job, "state">): boolean {
    return state !== "completing";
}

function sourceName(source: SourceDescription): string | undefined {
    if (source.kind === "connector") return source.connector;
    return source.kind === "http" ? new URL(source.url).origin : undefined;
}

function sourceKey(name: string): string {
    if (/^[\x21-\x7E]{1,256}$/.test(name)) return name;
    return `#${createHash("sha256").update(name).digest("base64url")}`;
}

export class SourceGate {
    readonly #limits: ReadonlyMap<string, SourceLimit>;
    readonly #fallback: SourceLimit;
    readonly #now: () => number;
    readonly #sources = new Map<string, State>();
    /** Places of streams that were opened ahead, by the job whose transfer will read them. */
    readonly #kept = new Map<string, KeptPlace>();

    constructor({ default: fallback = {}, ...limits }: SourceLimits, now: () => number = steadyNow) {
        this.#limits = new Map(Object.entries(limits).map(([name, limit]) => [sourceKey(name), limit]));
        this.#fallback = fallback;
        this.#now = now;
    }

    /** Until when the source must not be asked; 0 when it may be now, Infinity when one of its transfers has to end first. */
    closedUntil(key: string): number {
        const state = this.#sources.get(key);
        if (state === undefined) return 0;
        const { concurrency = Number.POSITIVE_INFINITY } = this.#limitOf(key);
        if (state.running >= concurrency || (isDoubted(state) && state.trial !== undefined))
            return Number.POSITIVE_INFINITY;
        const until = Math.max(state.pausedUntil, state.nextStartAt);
        return until > this.#now() ? until : 0;
    }

    /** The same for a job, which may always ask where a place is kept for it. */
    closedFor(job: Job): number {
        const key = asksItsSource(job) ? sourceKeyOf(job) : undefined;
        return key === undefined || this.#kept.has(job.id) ? 0 : this.closedUntil(key);
    }

    /** Until when the source of a job is left alone for what it has answered: that others are just there says nothing of it. */
    pausedFor(job: Job): number {
        return this.#kept.has(job.id) ? 0 : (this.#sources.get(sourceKeyOf(job) ?? "")?.pausedUntil ?? 0);
    }

    mayAsk(source: SourceDescription): boolean {
        const key = sourceKeyOf({ source });
        return key === undefined || this.closedUntil(key) === 0;
    }

    /** Counts a transfer in, which takes over the place that is kept for it; to be left when it has ended. */
    enter(job: Job): Place {
        const kept = this.#kept.get(job.id);
        this.#kept.delete(job.id);
        if (kept !== undefined) return kept.place;
        return this.#enter(asksItsSource(job) ? sourceKeyOf(job) : undefined);
    }

    /** Counts in an opening ahead of any transfer, where the source may be asked: the look and the step are one. */
    enterAhead(source: SourceDescription): Place | undefined {
        return this.mayAsk(source) ? this.#enter(sourceKeyOf({ source })) : undefined;
    }

    /**
     * Keeps the place of an open stream for the transfer that will read it: both are one connection, and count once.
     * @param letGo Ends the stream, where somebody needs its place more.
     * @returns The place as long as it is kept: once the transfer has it, there is nothing to leave any more.
     */
    keepFor({ id, source }: Pick<Job, "id" | "source">, place: Place, letGo: () => void): Place {
        const kept: KeptPlace = { key: sourceKeyOf({ source }), place, letGo };
        this.#kept.set(id, kept);
        return () => this.#kept.get(id) === kept && this.#kept.delete(id) && place();
    }

    /**
     * Has one stream let go that waits for its transfer at the source of this job. A message that waits for its file may
     * stand before the stream's own message in their room, and each would wait for the other until the stream's time is up.
     */
    claimPlace(job: Job): void {
        const key = sourceKeyOf(job);
        if (key === undefined || this.closedUntil(key) !== Number.POSITIVE_INFINITY) return;
        for (const kept of this.#kept.values()) if (kept.key === key) return kept.letGo();
    }

    #enter(key: string | undefined): Place {
        const state = key === undefined ? undefined : this.#stateOf(key);
        if (key === undefined || state === undefined) return () => false;
        const { perSecond } = this.#limitOf(key);
        state.running++;
        if (perSecond !== undefined)
            state.nextStartAt = Math.max(this.#now(), state.nextStartAt) + Math.ceil(1000 / perSecond);
        let isTaken = true;
        const leave: Place = () => {
            if (!isTaken) return false;
            isTaken = false;
            state.running--;
            if (state.trial === leave) state.trial = undefined;
            if (isForgettable(state, this.#now())) this.#sources.delete(key);
            return true;
        };
        if (isDoubted(state)) state.trial ??= leave;
        return leave;
    }

    /** The source has begun to give what it was asked for. Returns whether others had to wait for that. */
    answered(job: Job): boolean {
        const state = this.#sources.get(sourceKeyOf(job) ?? "");
        if (state === undefined || !isDoubted(state)) return false;
        state.hasAnswered = true;
        state.trial = undefined;
        return true;
    }

    /** Whether other files come from its source while it has a place there. */
    hasOthers(job: Job): boolean {
        return (this.#sources.get(sourceKeyOf(job) ?? "")?.running ?? 0) > 1;
    }

    /** The source gave what it was asked for. */
    succeeded(job: Job): void {
        const state = this.#sources.get(sourceKeyOf(job) ?? "");
        if (state !== undefined) recover(state);
    }

    /** A try, or an opening ahead of it, has failed. Returns until when the source is left alone. */
    failed(job: Pick<Job, "source">, error: MediaError): number {
        const key = sourceKeyOf(job);
        const state = key === undefined ? undefined : this.#stateOf(key);
        if (state === undefined) return 0;
        if (!TROUBLE.has(error.code)) {
            // Also a refusal is an answer; what the homeserver did says nothing of the source.
            if (error.code.startsWith("SOURCE_")) recover(state);
            return 0;
        }
        state.hasAnswered = false;
        const told = error.retryAfterMs === undefined ? 0 : this.#now() + retryDelay(error, 0);
        // One outage, however many transfers it cuts off; but a wait that is told counts whenever it is told.
        const due = state.pausedUntil > this.#now() ? 0 : this.#now() + retryDelay(error, state.troubles++);
        state.pausedUntil = Math.max(state.pausedUntil, told, due);
        return state.pausedUntil;
    }

    #limitOf(key: string): SourceLimit {
        return this.#limits.get(key) ?? this.#fallback;
    }

    #stateOf(key: string): State | undefined {
        const known = this.#sources.get(key);
        if (known !== undefined) return known;
        if (this.#sources.size >= MAX_SOURCES) {
            for (const [other, state] of this.#sources)
                if (isForgettable(state, this.#now())) this.#sources.delete(other);
            if (this.#sources.size >= MAX_SOURCES) return undefined;
        }
        const state: State = {
            running: 0,
            troubles: 0,
            hasAnswered: false,
            trial: undefined,
            pausedUntil: 0,
            nextStartAt: 0,
        };
        this.#sources.set(key, state);
        return state;
    }
}

/** Whether the next file shows whether it is well again. */
function isDoubted({ troubles, hasAnswered }: State): boolean {
    return troubles > 0 && !hasAnswered;
}

function recover(state: State): void {
    state.troubles = 0;
    state.trial = undefined;
}

function isForgettable({ running, troubles, pausedUntil, nextStartAt }: State, now: number): boolean {
    if (running > 0 || nextStartAt > now) return false;
    return troubles === 0 ? pausedUntil <= now : pausedUntil + REMEMBER_TROUBLE_MS <= now;
}
