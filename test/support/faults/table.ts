import type { Cell, Outcome } from "./cell-scene.ts";
import { FAULTS, type Fault } from "./faults.ts";
import { STEPS, type Step } from "./steps.ts";

/** The matrix: what each cell has to end as, or why it does not apply. */

export type Judgement = Outcome | { readonly skip: string };

const OUTCOMES = { edit: "edited", redaction: "redacted", picture: "picture", "room picture": "picture" } as const;

/** Of an unused address, at the homeserver that the cells have. */
const LIFE_MS = 24 * 60 * 60_000;
/** Here the photo has its address and not yet its turn: a clock that is far ahead ends that address. */
const BEFORE_ITS_TURN: readonly string[] = ["look for the event", "thumbnail: upload"];

/** Whether the clock ends whatever address is still to be filled when it jumps. */
export function endsAddresses({ clockMs = 0 }: Pick<Fault, "clockMs">): boolean {
    return clockMs > LIFE_MS;
}

export function judge({ name, onConnection, clockMs = 0 }: Fault, step: Step): Judgement {
    if (onConnection === true && step.connectsAs !== undefined)
        return { skip: `it connects in the way of *${step.connectsAs}*` };
    if (step.after === "file gone") return "notice";
    if (step.after === "lost address" || step.after === "ending address") return "file, by an edit";
    if (step.later !== undefined) return OUTCOMES[step.later];
    if (step.name === "encryption state" && name === "200 with wrong types")
        return { skip: "any `m.room.encryption` is taken at its word: rather encrypted than in the clear" };
    if (endsAddresses({ clockMs }) && BEFORE_ITS_TURN.includes(step.name)) return "file, by an edit";
    // A file that is none is said so at once: links that have expired answer like that.
    const isPage = name === "200 with a page" || name === "200 with wrong types";
    if (step.gate === "source" && step.after === undefined && step.isCall !== true && isPage) return "notice";
    // The source's own word.
    if (step.gate === "source" && name === "404 of a proxy") return "notice";
    // The second pass finds another file than the first: what was sent cannot be opened with the key of its event.
    if (step.encrypted === "two-pass" && name === "200 without a body") return "file, by an edit";
    return "file";
}

export function cells(more: readonly Fault[]): Cell[] {
    return STEPS.flatMap((step) =>
        [...FAULTS, ...more].flatMap((fault) => {
            const outcome = judge(fault, step);
            return typeof outcome === "string" ? [{ fault, step, outcome }] : [];
        }),
    );
}
