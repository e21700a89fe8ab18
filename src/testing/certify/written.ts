/** A record's text from here on: it has no control characters, and what stands between two records has. */
const SAME = String.raw`[^\u0000-\u001f]*`;
/** A deletion in LevelDB's log: a zero, the key's length, the key. */
const deleted = (key: string): RegExp => new RegExp(String.raw`\u0000[^]${key}`);
const said = (...parts: readonly string[]): RegExp => new RegExp(parts.join(SAME));

/**
 * How a write that makes a step last looks in LevelDB's log, where nothing is compressed: by what its record says, or by the
 * list that a row is taken out of.
 */
export const WRITTEN = {
    hold: said('"heldFor":"'),
    promote: deleted(String.raw`waiting\u0000`),
    refresh: said('"connector":"network"', '"link":"link'),
    retry: said('"state":"ready"', '"revived":true'),
    cancel: said('"state":"cancelled"'),
    fail: said('"state":"failed"'),
    replace: said('"state":"replaced"'),
    stored: said('"state":"completing"'),
    follow: said('"follows":true'),
    "lead, reuse": deleted(String.raw`following\u0000`),
    edit: said('"edits":"m'),
    "taking back": said('"redact":true'),
    redaction: said('"redacts":"'),
    picture: said(String.raw`avatar\u0000@`),
    "picture set": deleted(String.raw`avatar\u0000@`),
} as const satisfies Record<string, RegExp>;

export type Written = keyof typeof WRITTEN;

/** Steps that other moments hit seldom. */
export const SELDOM: ReadonlySet<Written> = new Set<Written>([
    "hold",
    "promote",
    "retry",
    "cancel",
    "follow",
    "lead, reuse",
]);
