/** Tokens of pagination and sync are one kind: a place in the server's stream of events. */
import { invalid } from "./matrix-error.ts";

export const positionToken = (position: number): string => `s${position}`;

export function parsePosition(token: string | undefined): number | undefined {
    if (token === undefined || token === "") return undefined;
    const digits = /^s(\d{1,15})$/u.exec(token)?.[1];
    if (digits === undefined) throw invalid("Invalid stream token");
    return Number(digits);
}
