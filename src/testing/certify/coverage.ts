import type { Step } from "./step.ts";
import { JOB_STEPS } from "./steps-of-jobs.ts";
import { MESSAGE_STEPS } from "./steps-of-messages.ts";

/** Every step that is counted. */
export const STEPS: readonly Step[] = [...MESSAGE_STEPS, ...JOB_STEPS];
