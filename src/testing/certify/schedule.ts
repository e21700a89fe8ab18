import type { Random } from "./random.ts";
import type { Deed } from "./deeds.ts";
import type { Kind, Phase } from "./recorder/moments.ts";
import { SELDOM, WRITTEN, type Written } from "./written.ts";

/** When a process is killed, seen from outside: on the wire, in its files, by what it said, or by the clock. */
export type Moment =
    | { readonly on: "wire"; readonly kind: Kind; readonly phase: Phase; readonly nth: number }
    /** The n-th time that a file in the folder grew, came or went. */
    | { readonly on: "journal" | "spool"; readonly nth: number }
    /** LevelDB's log has gained, for the n-th time, the write of such a step. */
    | { readonly on: "record"; readonly of: Written; readonly nth: number }
    /** `does`: of which deed; of any where it is undefined. */
    | { readonly on: "word"; readonly word: (typeof WORDS)[number]; readonly nth: number; readonly does?: Deed["does"] }
    /** The n-th request of a kind has it told to close; it is killed at the n-th write of its journal from then on. */
    | { readonly on: "close"; readonly kind: Kind; readonly nth: number; readonly writes: number }
    | { readonly on: "clock"; readonly ms: number };

/** About as long as a life with little to do takes, and one that has come to say more. */
const LIVES_MS = [250, 2000];

/**
 * The next moment. What takes effect on the wire is journaled next: killed with the answer withheld, a process has never
 * written it; killed when the answer was given, or when its journal grows, it may have written it and nobody heard.
 *
 * @param busy How many messages it is about to be told.
 * @param isReadable Whether the journal's writes can be read as they come: those of LevelDB.
 */
export function nextMoment(random: Random, busy: number, isReadable = true): Moment {
    const nth = 1 + random.below(Math.max(1, busy));
    const on = random.pick<Moment["on"]>([
        [38, "wire"],
        [12, "journal"],
        [isReadable ? 24 : 0, "record"],
        [4, "spool"],
        [15, "word"],
        [7, "close"],
        [10, "clock"],
    ]);
    switch (on) {
        case "journal":
            // A message makes several writes, which are gathered when they come together.
            return { on, nth: 1 + random.below(3 * busy) };
        case "spool":
            return { on, nth };
        case "word": {
            const word = random.pick<(typeof WORDS)[number]>([
                [3, "said"],
                [1, "starting"],
                [1, "started"],
                [3, "sent"],
                [1, "ended"],
                [8, "calling"],
                [5, "called"],
            ]);
            const does = random.pick<Deed["does"] | undefined>([
                [2, undefined],
                [1, "edit"],
                [1, "redact"],
                [1, "cancel"],
                [2, "retry"],
                [1, "picture"],
            ]);
            if ((word === "calling" || word === "called") && does !== undefined) return { on, word, does, nth: 1 };
            return { on, word, nth: 1 + random.below(Math.ceil(busy / 2)) };
        }
        case "record": {
            const names = Object.keys(WRITTEN) as Written[];
            return { on, of: random.pick(names.map((name) => [SELDOM.has(name) ? 2 : 1, name])), nth: 1 };
        }
        case "close": {
            const kind = random.pick<Kind>([
                [3, "fetch"],
                [1, "upload"],
                [1, "storage"],
            ]);
            return { on, kind, nth: 1 + random.below(Math.ceil(busy / 3)), writes: random.below(4) };
        }
        case "clock":
            return { on, ms: random.below(LIVES_MS[random.below(LIVES_MS.length)] ?? 0) };
        case "wire": {
            const kind = random.pick<Kind>([
                [4, "create"],
                [6, "send"],
                [2, "look"],
                [5, "upload"],
                [5, "storage"],
                [5, "complete"],
                [3, "fetch"],
                [2, "redact"],
                [2, "profile"],
                [2, "link"],
            ]);
            const phase = random.pick<Phase>([
                [2, "arrived"],
                [kind === "upload" || kind === "storage" || kind === "fetch" ? 2 : 0, "half"],
                [4, "handled"],
                [4, "answered"],
            ]);
            return {
                on,
                kind,
                phase,
                nth: RARE.has(kind)
                    ? 1
                    : kind === "send" || kind === "fetch"
                      ? nth
                      : 1 + random.below(Math.ceil(busy / 3)),
            };
        }
    }
}

const RARE: ReadonlySet<Kind> = new Set(["redact", "profile", "link"]);
const WORDS = ["said", "starting", "started", "sent", "ended", "calling", "called"] as const;

/** Whether it comes only where the network's files cannot be had for a while. */
export function wantsTrouble(moment: Moment): boolean {
    return moment.on === "record" && (moment.of === "hold" || moment.of === "promote");
}

export function describe(moment: Moment): string {
    switch (moment.on) {
        case "wire":
            return `${moment.kind} ${moment.phase}`;
        case "word":
            return `"${moment.word}" told`;
        case "record":
            return `${moment.of} written`;
        case "close":
            return "closing";
        case "clock":
            return "any instant";
        default:
            return `${moment.on} written`;
    }
}
