import type { Context } from "../support/context.ts";
import type { Row } from "../support/result.ts";

export interface Measurement {
    readonly name: string;
    readonly about: string;
    measure(context: Context): Promise<Row[]>;
}

export const MEBIBYTE = 2 ** 20;
export const GIBIBYTE = 2 ** 30;
