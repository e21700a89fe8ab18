import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import type { Child } from "./child.ts";
import type { Life } from "./driver.ts";
import type { Kind, Phase } from "./recorder/moments.ts";
import type { RecordedRequest, Recorder } from "./recorder/recorder.ts";
import type { Moment } from "./schedule.ts";
import { DiskWatch, keptOff, lostBetween, type Pulse } from "./standstill.ts";
import { watchFolder } from "./watch.ts";

/** One life of the bridge, watched from outside, and its end: at its moment, or in peace. */

export interface Lived {
    /** Whether its moment came. */
    readonly isKilled: boolean;
    /** What it said of each message: its last word. */
    readonly told: ReadonlyMap<string, Word>;
    /** What it did that no bridge may. */
    readonly violations: readonly string[];
    /** How long after `start()` its first request for the work that it found came; undefined where it lived for less. */
    readonly firstRequestMs: number | undefined;
    /** How long after `start()` was called it is known to have lived: until its last pulse. */
    readonly livedMs: number;
    /** From `start()` on. */
    readonly pulses: readonly Pulse[];
    /** For how much of the time until its first request it was kept off the processor, or the disk stood still. */
    readonly stoodMs: number;
    /**
     * How many times its processor time the process took to load, 1 at least: on a machine that is busy with other
     * things nothing is quick.
     */
    readonly slowness: number;
}

export type Word = "said" | "sent" | "ended";

export interface Living {
    readonly child: Child;
    readonly life: Life;
    readonly recorder: Recorder;
    /** Tells the requests for the work that it finds; undefined where it finds none. */
    readonly isForWork: ((request: RecordedRequest) => boolean) | undefined;
    /** The messages to say, by number. */
    readonly say: readonly number[];
}

/** A life whose moment never comes, and that does not come to rest either. */
const LIFE_LIMIT_MS = 60_000;

/** @param more Asked when it has come to rest before its moment came; undefined where the moment is given up. */
export async function liveUntil(
    living: Living,
    moment: Moment,
    setStrike: (strike: (kind: Kind, phase: Phase) => boolean) => void,
    more: () => readonly number[] | undefined,
): Promise<Lived> {
    const { child, life } = living;
    const notes = new Notes(living);
    let isKilled = false;
    let count = 0;
    const strike = (): true => {
        isKilled = true;
        child.kill();
        return true;
    };
    // Once it is struck, what it had sent before it died is let go as well.
    const reached = (): boolean => isKilled || ("nth" in moment && ++count >= moment.nth && strike());
    setStrike((kind, phase) => isKilled || (isAt(moment, kind, phase) && reached()));
    const isOnDisk = moment.on === "journal" || moment.on === "spool";
    const unwatch = isOnDisk ? watchFolder(join(life.dataDir, moment.on), reached) : () => {};
    let instant: NodeJS.Timeout | undefined;

    const limit = setTimeout(() => {
        notes.violations.push(`a life did not come to rest within ${LIFE_LIMIT_MS} ms`);
        child.kill();
    }, LIFE_LIMIT_MS);
    child.live(life, (word, ...rest) => {
        notes.take(word, ...rest);
        if (word === "starting" && moment.on === "clock") instant = setTimeout(strike, moment.ms);
        if (word === "idle" && !isKilled) {
            const numbers = more();
            if (numbers === undefined) child.kill();
            else child.say(numbers);
        }
        if (moment.on === "word" && word === moment.word) reached();
    });
    child.say(living.say);
    const { code, signal } = await child.ended;
    clearTimeout(limit);
    clearTimeout(instant);
    unwatch();
    setStrike(() => false);
    if (signal !== "SIGKILL") notes.violations.push(`a process ended by itself with ${code}: ${child.stderr}`);
    return { ...(await notes.lived()), isKilled };
}

/** @param isWell Asked until it says so, or `quietMs` have passed. */
export async function liveInPeace(living: Living, quietMs: number, isWell: () => boolean): Promise<Lived> {
    const { child, life } = living;
    const notes = new Notes(living);
    const until = Date.now() + quietMs;
    child.live(life, notes.take.bind(notes));
    child.say(living.say);
    const isOver = (): boolean => notes.hasIdled && isWell();
    while (!child.hasEnded && Date.now() < until && !isOver()) await sleep(20);
    const lived = await notes.lived();
    const { hasIdled } = notes;
    if (!hasIdled && !child.hasEnded) notes.violations.push(`jobs were not at their end after ${quietMs} ms`);
    if (hasIdled) child.leave();
    const closed = Date.now() + (hasIdled ? quietMs : 0);
    while (!child.hasEnded && Date.now() < closed) await sleep(20);
    if (hasIdled && !child.hasEnded) notes.violations.push("the component could not be closed");
    child.kill();
    const { code, signal } = await child.ended;
    if (signal !== "SIGKILL" && code !== 0)
        notes.violations.push(`the last process ended with ${code}: ${child.stderr}`);
    return { ...lived, isKilled: false };
}

function isAt(moment: Moment, kind: Kind, phase: Phase): boolean {
    return moment.on === "wire" && moment.kind === kind && moment.phase === phase;
}

/** What a process tells, written down. */
class Notes {
    readonly violations: string[] = [];
    readonly #told = new Map<string, Word>();
    readonly #living: Living;
    readonly #firstRequest: number;
    #startedAt: number | undefined;
    #slowness = 1;
    readonly #pulses: Pulse[] = [];
    #disk: DiskWatch | undefined;
    #hasIdled = false;

    constructor(living: Living) {
        this.#living = living;
        this.#firstRequest = living.recorder.requests.length;
    }

    /** Whether it has come to rest. */
    get hasIdled(): boolean {
        return this.#hasIdled;
    }

    take(word: string, id = "", detail = ""): void {
        if (word === "starting") {
            this.#startedAt = Number(id);
            this.#slowness = Math.max(1, Number(detail));
            const { life, isForWork } = this.#living;
            if (isForWork !== undefined) this.#disk = new DiskWatch(life.networkDir, () => this.#first() !== undefined);
        }
        if (word === "pulse") this.#pulses.push({ at: Number(id), cpuMs: Number(detail) });
        if (word === "idle") this.#hasIdled = true;
        if (word === "refused") this.violations.push(`send() of ${id} rejected: ${detail}`);
        if (word === "said" || word === "sent" || word === "ended") this.#told.set(id, word);
    }

    async lived(): Promise<Omit<Lived, "isKilled">> {
        await this.#disk?.stop();
        const { violations } = this;
        const pulses = [...this.#pulses];
        const startedAt = this.#startedAt ?? Date.now();
        const first = this.#first();
        const until = first?.at ?? pulses.at(-1)?.at ?? startedAt;
        // The same standstill may have kept it off both.
        const stoodMs = Math.max(
            lostBetween(keptOff(pulses), startedAt, until),
            lostBetween(this.#disk?.standstills ?? [], startedAt, until),
        );
        return {
            told: this.#told,
            violations,
            firstRequestMs: first && first.at - startedAt,
            livedMs: until - startedAt,
            pulses,
            stoodMs,
            slowness: this.#slowness,
        };
    }

    #first(): RecordedRequest | undefined {
        const { recorder, isForWork = () => true } = this.#living;
        return recorder.requests.slice(this.#firstRequest).find(isForWork);
    }
}
