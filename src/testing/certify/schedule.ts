import type { Random } from "./random.ts";
import { type Kind, type Phase } from "./recorder/moments.ts";

/** When a process is killed, seen from outside: on the wire, in its files, by what it said, or by the clock. */
export type Moment =
    | { readonly on: "wire"; readonly kind: Kind; readonly phase: Phase; readonly nth: number }
    /** The n-th time that a file in the folder grew, came or went. */
    | { readonly on: "journal" | "spool"; readonly nth: number }
    | { readonly on: "word"; readonly word: "said" | "starting" | "started" | "sent" | "ended"; readonly nth: number }
    | { readonly on: "clock"; readonly ms: number };

/** About as long as a life with little to do takes, and one that has come to say more. */
const LIVES_MS = [250, 2000];

/**
 * The next moment. What takes effect on the wire is journaled next: killed with the answer withheld, a process has never
 * written it; killed when the answer was given, or when its journal grows, it may have written it and nobody heard.
 */
export function nextMoment(random: Random, busy: number): Moment {
    const nth = 1 + random.below(Math.max(1, busy));
    const on = random.pick<Moment["on"]>([
        [45, "wire"],
        [25, "journal"],
        [6, "spool"],
        [9, "word"],
        [15, "clock"],
    ]);
    switch (on) {
        case "journal":
            // A message makes several writes, which are gathered when they come together.
            return { on, nth: 1 + random.below(3 * busy) };
        case "spool":
            return { on, nth };
        case "word":
            return {
                on,
                nth,
                word: random.pick([3, 1, 1, 3, 2].map((weight, index) => [weight, WORDS[index] ?? "said"])),
            };
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
                nth: kind === "send" || kind === "fetch" ? nth : 1 + random.below(Math.ceil(busy / 3)),
            };
        }
    }
}

const WORDS = ["said", "starting", "started", "sent", "ended"] as const;

export function describe(moment: Moment): string {
    switch (moment.on) {
        case "wire":
            return `${moment.kind} ${moment.phase}`;
        case "word":
            return `"${moment.word}" told`;
        case "clock":
            return "any instant";
        default:
            return `${moment.on} written`;
    }
}
