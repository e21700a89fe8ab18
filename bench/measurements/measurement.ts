import type { Context } from "../support/context.ts";
import type { Findings, Row } from "../support/result.ts";

export interface Measurement {
    readonly name: string;
    readonly about: string;
    /** For what takes long. */
    readonly atMostRuns?: number;
    measure(context: Context): Promise<readonly Row[] | Findings>;
}

export const MEBIBYTE = 2 ** 20;
export const GIBIBYTE = 2 ** 30;
