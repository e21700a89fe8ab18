import type { Cell, Outcome } from "./cell.ts";
import { FAULTS, type Fault } from "./faults.ts";
import { STEPS, type Step } from "./steps.ts";

/** The matrix: what each cell has to end as, or why it does not apply. */

export type Judgement = Outcome | { readonly skip: string };

export function judge(_fault: Fault, step: Step): Judgement {
    if (step.after === "file gone") return "notice";
    return "file";
}

export function cells(): Cell[] {
    return STEPS.flatMap((step) =>
        FAULTS.flatMap((fault) => {
            const outcome = judge(fault, step);
            return typeof outcome === "string" ? [{ fault, step, outcome }] : [];
        }),
    );
}
