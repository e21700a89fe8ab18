import { MediaError } from "../errors.ts";

/**
 * Many networks answer with 200 and a web page or a JSON error where a file has gone. Such an answer must never
 * become somebody's picture, so what promises to be media must not look like a page.
 */

const BINARY_MEDIA = /^(?:image|audio|video)\//i;
const PAGE_TYPE = /^(?:text\/html|application\/xhtml\+xml|application\/json|application\/problem\+json)\b/i;

/** Throws SOURCE_TYPE_MISMATCH when the source's own Content-Type is a page's while media was promised. */
export function checkAnnouncedType(promised: string | undefined, announced: string | undefined): void {
    if (promised === undefined || announced === undefined || !BINARY_MEDIA.test(promised)) return;
    if (!PAGE_TYPE.test(announced)) return;
    throw new MediaError("SOURCE_TYPE_MISMATCH", { detail: `promised ${promised}, sent ${announced.split(";")[0]}` });
}

/** Whether a file's first bytes are a web page or a JSON text although `promised` is a binary media type. */
export function looksLikeErrorPage(firstBytes: Uint8Array, promised: string | undefined): boolean {
    // SVG is text, and may well begin as a page does.
    if (promised === undefined || !BINARY_MEDIA.test(promised) || /^image\/svg/i.test(promised)) return false;
    const head = Buffer.from(firstBytes.subarray(0, 512))
        .toString("latin1")
        .replace(/^\u00EF\u00BB\u00BF/, "")
        .trimStart()
        .toLowerCase();
    return /^<(?:!doctype html|html|head|body|\?xml)\b/.test(head) || /^[{[]\s*"/.test(head);
}
