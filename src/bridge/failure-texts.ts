import { ERRORS, type ErrorCode, roomText } from "../errors.ts";

/**
 * The sentence that stands in the room for a file that cannot come, as a template that can be translated: one for all,
 * or one for a code. What stands in square brackets is left out where something in it is not known.
 */
export type FailureTexts = Readonly<Partial<Record<FailureTextKey, string>>> & {
    /** What `{reason}` says, by code. */
    readonly reasons?: Readonly<Partial<Record<ErrorCode, string>>> | undefined;
};
/** A code of the table of errors; `default` for every other; `unnamed` in place of a name that is not known. */
export type FailureTextKey = ErrorCode | "default" | "unnamed";

const CODES = Object.keys(ERRORS) as ErrorCode[];
export const FAILURE_TEXT_KEYS = ["default", "unnamed", ...CODES] as const;
export const FAILURE_REASON_KEYS = CODES;

const PLACEHOLDERS = ["name", "size", "limit", "reason", "link"] as const;
export type Placeholder = (typeof PLACEHOLDERS)[number];

const WORDS = `\\{(?:${PLACEHOLDERS.join("|")})\\}`;
/** Text, placeholders, and parts in square brackets, which do not stand in each other. */
export const FAILURE_TEMPLATE = new RegExp(`^(?:[^{}\\[\\]]|${WORDS}|\\[(?:[^{}\\[\\]]|${WORDS})*\\])*$`);

const DEFAULTS = {
    default: "{name}[ ({size})] could not be bridged: {reason}[. Original: {link}]",
    unnamed: "A file",
    FILE_TOO_LARGE: "{name}[ ({size})] could not be bridged: {reason}[ of {limit}][. Original: {link}]",
} satisfies FailureTexts;

/** The template for a code: the given ones before the package's own, the code's own before the one for all. */
export function templateFor(code: ErrorCode, given: FailureTexts): string {
    const own = code === "FILE_TOO_LARGE" ? DEFAULTS.FILE_TOO_LARGE : undefined;
    return given[code] ?? given.default ?? own ?? DEFAULTS.default;
}

/** Why, for the room. */
export function roomReason(code: ErrorCode, { reasons }: FailureTexts): string {
    return reasons?.[code] ?? roomText(code);
}

export function unnamed(given: FailureTexts): string {
    return given.unnamed ?? DEFAULTS.unnamed;
}

/** Fills a template. What is not known is undefined; `escape` is applied to the template's own text only. */
export function filled(
    template: string,
    values: Readonly<Record<Placeholder, string | undefined>>,
    escape: (text: string) => string = (text) => text,
): string {
    const fill = (part: string): string =>
        part
            .split(/(\{\w+\})/)
            .map((piece, index) => (index % 2 === 0 ? escape(piece) : (valueOf(piece, values) ?? "")))
            .join("");
    return template
        .split(/\[([^[\]]*)\]/)
        .map((part, index) => (index % 2 === 1 && lacksSomething(part, values) ? "" : fill(part)))
        .join("");
}

function lacksSomething(part: string, values: Readonly<Record<Placeholder, string | undefined>>): boolean {
    return (part.match(/\{\w+\}/g) ?? []).some((piece) => valueOf(piece, values) === undefined);
}

function valueOf(piece: string, values: Readonly<Record<Placeholder, string | undefined>>): string | undefined {
    return values[piece.slice(1, -1) as Placeholder];
}
