import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import type { Child } from "./child.ts";
import type { Life } from "./driver.ts";
import type { Kind, Phase } from "./recorder/moments.ts";
import type { RecordedRequest, Recorder } from "./recorder/recorder.ts";
import type { Moment } from "./schedule.ts";
import { DiskWatch, keptOff, lostBetween, type Pulse } from "./standstill.ts";
import { watchFolder, watchLog } from "./watch.ts";
import { WRITTEN } from "./written.ts";

/** One life of the bridge, watched from outside, and its end: at its moment, or in peace. */

export interface Lived {
    /** Whether its moment came. */
    readonly isKilled: boolean;
    /** It had begun to close. */
    readonly isClosing: boolean;
    /** What it said of each message and deed: its last word. */
    readonly told: ReadonlyMap<string, Word>;
    /** What came of those that have an end: the error's code where they were refused. */
    readonly ends: ReadonlyMap<string, End>;
    /** What it did that no bridge may. */
    readonly violations: readonly string[];
    /** How long after `start()` its first request for the work that it found came; undefined where it lived for less. */
    readonly firstRequestMs: number | undefined;
    /** How long after `start()` was called it is known to have lived: until its last pulse. */
    readonly livedMs: number;
    /** In ms since the epoch. */
    readonly endedAt: number;
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

/** Of a message: that it is handed to the component, is in its room, and its files are at their end. Of a deed: that it is called, and has an end. */
export type Word = "said" | "sent" | "ended" | "calling" | "called" | "refused";

export interface End {
    readonly word: Word;
    readonly what: string;
    readonly at: number;
}

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
        notes.endedAt = Date.now();
        child.kill();
        return true;
    };
    // Once it is struck, what it had sent before it died is let go as well.
    const reached = (): boolean => isKilled || ("nth" in moment && ++count >= moment.nth && strike());
    let isLeaving = false;
    let writes = 0;
    setStrike((kind, phase) => {
        if (isKilled) return true;
        if (moment.on !== "close") return isAt(moment, kind, phase) && reached();
        if (kind !== moment.kind || phase !== "arrived" || isLeaving || ++count < moment.nth) return false;
        isLeaving = true;
        child.leave();
        return false;
    });
    const unwatch = watched(life, moment, () => {
        if (moment.on !== "close") reached();
        else if (isLeaving && !isKilled && ++writes >= moment.writes) strike();
    });
    let instant: NodeJS.Timeout | undefined;

    const limit = setTimeout(() => {
        notes.violations.push(`a life did not come to rest within ${LIFE_LIMIT_MS} ms`);
        child.kill();
    }, LIFE_LIMIT_MS);
    child.live(life, (word, ...rest) => {
        notes.take(word, ...rest);
        if (word === "starting" && moment.on === "clock") instant = setTimeout(strike, moment.ms);
        if (word === "idle" && !isKilled && !isLeaving) {
            const numbers = more();
            if (numbers === undefined) child.kill();
            else child.say(numbers);
        }
        const [, , does] = rest;
        if (moment.on === "word" && word === moment.word && (moment.does ?? does) === does) reached();
        if (moment.on === "close" && moment.writes === 0 && word === "closing") strike();
    });
    child.say(living.say);
    const { code, signal } = await child.ended;
    notes.endedAt ??= Date.now();
    clearTimeout(limit);
    clearTimeout(instant);
    unwatch();
    setStrike(() => false);
    const hasClosed = isLeaving && code === 0;
    if (signal !== "SIGKILL" && !hasClosed)
        notes.violations.push(`a process ended by itself with ${code}: ${child.stderr}`);
    return { ...(await notes.lived()), isKilled };
}

/** @param isWell Asked until it says so, or `quietMs` have passed. */
export async function liveInPeace(
    living: Living,
    quietMs: number,
    isWell: (heard: Pick<Lived, "ends">) => boolean,
): Promise<Lived> {
    const { child, life } = living;
    const notes = new Notes(living);
    const until = Date.now() + quietMs;
    child.live(life, notes.take.bind(notes));
    child.say(living.say);
    const isOver = (): boolean => notes.hasIdled && isWell(notes);
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

/** Tells when the files have changed as the moment says. */
function watched({ dataDir }: Life, moment: Moment, onChange: () => void): () => void {
    switch (moment.on) {
        case "journal":
        case "spool":
            return watchFolder(join(dataDir, moment.on), onChange);
        case "close":
            return moment.writes === 0 ? () => {} : watchFolder(join(dataDir, "journal"), onChange);
        case "record": {
            const pattern = WRITTEN[moment.of];
            return watchLog(join(dataDir, "journal"), (text) => {
                if (pattern.test(text)) onChange();
            });
        }
        default:
            return () => {};
    }
}

function isAt(moment: Moment, kind: Kind, phase: Phase): boolean {
    return moment.on === "wire" && moment.kind === kind && moment.phase === phase;
}

const WORDS: ReadonlySet<string> = new Set<Word>(["said", "sent", "ended", "calling", "called", "refused"]);

function isWord(word: string): word is Word {
    return WORDS.has(word);
}

/** What a process tells, written down. */
class Notes {
    readonly violations: string[] = [];
    endedAt: number | undefined;
    readonly #told = new Map<string, Word>();
    readonly #ends = new Map<string, End>();
    readonly #living: Living;
    readonly #firstRequest: number;
    #startedAt: number | undefined;
    #slowness = 1;
    readonly #pulses: Pulse[] = [];
    #disk: DiskWatch | undefined;
    #hasIdled = false;
    #isClosing = false;

    constructor(living: Living) {
        this.#living = living;
        this.#firstRequest = living.recorder.requests.length;
    }

    get ends(): ReadonlyMap<string, End> {
        return this.#ends;
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
        if (word === "closing") this.#isClosing = true;
        if (!isWord(word)) return;
        this.#told.set(id, word);
        if (word === "called" || word === "refused") this.#ends.set(id, { word, what: detail, at: Date.now() });
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
            isClosing: this.#isClosing,
            told: this.#told,
            ends: this.#ends,
            violations,
            firstRequestMs: first && first.at - startedAt,
            livedMs: until - startedAt,
            endedAt: this.endedAt ?? Date.now(),
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
