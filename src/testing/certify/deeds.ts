import { PICTURED, plan, type PlannedFile, type PlannedMessage } from "./messages.ts";
import { Random } from "./random.ts";

/**
 * What is done to messages after they were said, and beside them: edits and deletions that the network tells of, uploads
 * that an operator ends or tries again, and pictures of users. Each has a number of its own among the messages, and follows
 * from it and the episode's seed alone.
 */
export type Deed = {
    readonly id: string;
    readonly number: number;
    /** Told at one start only, as by a network that delivers once; else again after each kill, until its end was heard. */
    readonly once: boolean;
    /** When its message has come so far, in the process that has said it. */
    readonly when: "said" | "sent" | "ended";
} & (
    | { readonly does: "edit" | "redact"; readonly of: PlannedMessage }
    | { readonly does: "cancel" | "retry"; readonly of: PlannedMessage; readonly at: readonly string[] }
    | { readonly does: "picture"; readonly user: string; readonly file: PlannedFile }
);

export type Planned = PlannedMessage | Deed;

/** Of a hundred. */
const DEEDS = 30;
/** How far back the message may be. */
const REACH = 5;

export function isDeed(planned: Planned): planned is Deed {
    return "does" in planned;
}

/** What has this number. */
export function planned(seed: number, number: number, connectorFiles = 0): Planned {
    if (!isDeedsNumber(seed, number)) return plan(seed, number, connectorFiles);
    const random = new Random(seed ^ Math.imul(number + 1, 0x85ebca6b));
    const numbers = Array.from({ length: REACH }, (_, index) => number - 1 - index);
    const messages = numbers.filter((other) => other >= 0 && !isDeedsNumber(seed, other));
    const targets = messages.map((target) => plan(seed, target, connectorFiles));
    const late = targets.find(({ files: [main] }) => main?.kind === "late");
    // What has failed and comes after all is rare otherwise.
    const of = random.next() < 0.5 && late !== undefined ? late : targets[random.below(targets.length)];
    const [main] = of?.files ?? [];
    const does = random.pick<Deed["does"]>([
        [of === undefined ? 0 : 4, "edit"],
        [of === undefined ? 0 : 3, "redact"],
        [main === undefined ? 0 : 3, "cancel"],
        [main?.kind === "late" ? 20 : main?.kind === "missing" ? 5 : 0, "retry"],
        [2, "picture"],
    ]);
    const when = random.pick<Deed["when"]>([
        [does === "retry" ? 0 : 5, "said"],
        [does === "retry" ? 0 : 2, "sent"],
        [3, "ended"],
    ]);
    const known = { id: `d${number}`, number, once: random.next() < 0.4, when };
    if (of === undefined || does === "picture") {
        const user = PICTURED[random.below(PICTURED.length)] ?? "";
        const kind = random.pick([
            [3, "plain"],
            [1, "no-length"],
        ] as const);
        // One after the other: the newest is the one that stays.
        return {
            ...known,
            when: "said",
            does: "picture",
            user,
            file: { at: ["url"], kind, name: `${seed}-${number}-picture` },
        };
    }
    if (does === "edit" || does === "redact") return { ...known, does, of };
    const file = does === "retry" ? main : of.files[random.below(of.files.length)];
    return { ...known, does, of, at: file?.at ?? [] };
}

function isDeedsNumber(seed: number, number: number): boolean {
    return number > 0 && new Random(seed ^ Math.imul(number + 1, 0xc2b2ae35)).below(100) < DEEDS;
}
