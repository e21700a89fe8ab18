import { fileTypeFromBuffer } from "file-type";
import { MediaError } from "../errors.ts";

/**
 * Many networks answer with 200 and a web page, a JSON error, a sentence or nothing where a file has gone, or with another
 * file altogether. Such an answer must never become somebody's picture: what promises to be media must not look like a page,
 * must not be recognised as something else, and must not be text. What cannot be recognised is let through otherwise: there
 * are more formats than magic numbers.
 */

/** How many of a file's first bytes are looked at; what file-type asks for. */
export const HEAD_BYTES = 4100;

const BINARY_MEDIA = /^(?:image|audio|video)\//i;
/** Also where the message says picture and no more: SVG is told from a page by its first element. */
const MAYBE_SVG = /^image\/(?:svg|\*)/i;
const PAGE_TYPE = /^(?:text\/(?:html|xml)|application\/(?:xhtml\+xml|xml|json|problem\+(?:json|xml)))(?:\s*;|\s*$)/i;

/** Types that say nothing of a file, or that it is what must not come: `application/octet-stream`, `jpg`, `text/html`. */
const SAYS_NOTHING =
    /^(?!\w[\w.+-]*\/\w)|^(?:application|binary)\/(?:x-)?(?:octet-stream|binary|unknown|(?:force-)?download)(?:\s*;|\s*$)/i;

/** Image types whose files are text or archives of another name. */
const IMAGE_BY_ANOTHER_NAME = /^image\/(?:svg|openraster|(?:x-)?eps|x-xfig|vnd\.adobe\.illustrator)/i;
/** Media whose files are text, or begin with as much of it as is looked at: drawings, pictures in digits, playlists. */
const TEXT_MEDIA =
    /^(?:image\/(?:cgm|fits|(?:x-|vnd\.)?dxf|vnd\.radiance|x-(?:portable-\w+|pnm|xbitmap|xpixmap|xbm)|(?:x-)?xpm)|(?:audio|video)\/(?:(?:x-|vnd\.)?mpegurl|(?:x-)?(?:m3u|scpls)|x-pn-realaudio|vnd\.abc|x-ms-as[fx]))(?:\s*;|\s*$)/i;
/** Media whose files are JSON: Lottie stickers. */
const JSON_MEDIA = /^\w+\/[\w.-]+\+json(?:\s*;|\s*$)/i;
/** Found by two bytes only, as any file may begin: too little to refuse what else was promised. */
const WEAKLY_RECOGNISED = new Set([
    "audio/mpeg",
    "audio/aac",
    "audio/vnd.dolby.dd-raw",
    "image/bmp",
    "image/jxl",
    "video/mp2t",
    "application/x-msdownload",
    "application/postscript",
    "application/x-apple-diskimage",
    "application/x-compress",
    "application/x-cpio",
    "application/x-arj",
]);
/** Containers whose name says neither sound nor picture. */
const CONTAINERS = new Set([
    "application/ogg",
    "application/vnd.ms-asf",
    "application/mxf",
    "application/vnd.rn-realmedia",
]);

/**
 * What a file's bytes are held to: the type that it is said to have, or, where that says nothing, what its message promises by being
 * a picture, sound or film.
 */
export function promisedType(mimetype: string | undefined, family: string | undefined): string | undefined {
    if (mimetype === undefined || family === undefined) return mimetype ?? family;
    return SAYS_NOTHING.test(mimetype) || PAGE_TYPE.test(mimetype) ? family : mimetype;
}

/** Throws SOURCE_TYPE_MISMATCH when the source's own Content-Type is a page's while media was promised. */
export function checkAnnouncedType(promised: string | undefined, announced: string | undefined): void {
    if (promised === undefined || announced === undefined || !BINARY_MEDIA.test(promised)) return;
    if (!PAGE_TYPE.test(announced)) return;
    // SVG is XML, a Lottie sticker JSON, and some servers say no more.
    if (MAYBE_SVG.test(promised) && /\/xml/i.test(announced)) return;
    if (JSON_MEDIA.test(promised) && /\/json/i.test(announced)) return;
    throw mismatch(promised, announced.split(";")[0] ?? "");
}

/**
 * Throws SOURCE_TYPE_MISMATCH when a file's first bytes (up to HEAD_BYTES) are not what was promised, and SOURCE_LENGTH_MISMATCH
 * when there are none: a server in trouble answers so, and with the file a little later.
 */
export async function checkFirstBytes(head: Uint8Array, promised: string | undefined): Promise<void> {
    if (promised === undefined || !BINARY_MEDIA.test(promised)) return;
    if (head.length === 0)
        throw new MediaError("SOURCE_LENGTH_MISMATCH", { detail: `${promised} was promised, not one byte came` });
    if (looksLikeErrorPage(head, promised)) throw mismatch(promised, "a page or an error text");
    // An extractor that stumbles over odd bytes has recognised nothing.
    const found = await fileTypeFromBuffer(head).catch(() => undefined);
    if (found !== undefined && !isPlausible(promised, found.mime)) throw mismatch(promised, found.mime);
    const isRecognised = found !== undefined && !WEAKLY_RECOGNISED.has(found.mime);
    if (!isRecognised && isPlainText(head) && !mayBeText(head, promised)) throw mismatch(promised, "plain text");
}

/** Whether a file of the type `found` may pass for `promised`: an image for an image, sound or film for either. */
export function isPlausible(promised: string, found: string): boolean {
    const family = familyOf(promised);
    // What is XML and no page is an SVG.
    if (promised === "image/*" && found === "application/xml") return true;
    if (family === undefined || WEAKLY_RECOGNISED.has(found) || IMAGE_BY_ANOTHER_NAME.test(promised)) return true;
    return familyOf(found) === family;
}

/** Containers hold sound or film alike (mp4, webm, ogg), so these two are one family. */
function familyOf(mimetype: string): "image" | "sound or film" | undefined {
    if (/^image\//i.test(mimetype)) return "image";
    return /^(?:audio|video)\//i.test(mimetype) || CONTAINERS.has(mimetype.split(";")[0] ?? "")
        ? "sound or film"
        : undefined;
}

/** Whether a file's first bytes are a web page, XML or a JSON text although `promised` is a binary media type. */
export function looksLikeErrorPage(firstBytes: Uint8Array, promised: string | undefined): boolean {
    if (promised === undefined || !BINARY_MEDIA.test(promised)) return false;
    const text = asText(firstBytes).trimStart().toLowerCase();
    if (/^\{\s*["}]/.test(text) || /^\[\s*["{[\]]/.test(text)) return !JSON_MEDIA.test(promised);
    if (!/^<[a-z!?]/.test(text)) return false;
    if (!MAYBE_SVG.test(promised)) return true;
    // SVG begins as any page does: its first element tells, where it comes soon enough to be seen.
    const prologue = /<!--[\s\S]*?(?:-->|$)|<\?[\s\S]*?(?:\?>|$)|<!doctype[^[>]*(?:\[[\s\S]*?(?:\]\s*>|$)|>|$)/g;
    const root = /<(?:[\w-]+:)?([\w-]+)/.exec(text.replace(prologue, ""))?.[1];
    return root !== undefined && root !== "svg";
}

/** UTF-8 without a control character that no text has. A letter that the head's end has cut in two is none that is wrong. */
function isPlainText(head: Uint8Array): boolean {
    try {
        const text = new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: head.length >= HEAD_BYTES });
        return !/[^\P{Cc}\t\n\r]/u.test(text);
    } catch {
        return false;
    }
}

function mayBeText(head: Uint8Array, promised: string): boolean {
    if (TEXT_MEDIA.test(promised) || JSON_MEDIA.test(promised)) return true;
    // XML that is no SVG was a page.
    return MAYBE_SVG.test(promised) ? asText(head).trimStart().startsWith("<") : IMAGE_BY_ANOTHER_NAME.test(promised);
}

/** As far as it is text: UTF-16 loses its zeros, a byte order mark goes. */
function asText(bytes: Uint8Array): string {
    const text = Buffer.from(bytes.subarray(0, HEAD_BYTES)).toString("latin1");
    if (/^(?:\u00FF\u00FE|\u00FE\u00FF)/.test(text)) return text.slice(2).replaceAll("\0", "");
    return text.replace(/^\u00EF\u00BB\u00BF/, "");
}

function mismatch(promised: string, found: string): MediaError {
    return new MediaError("SOURCE_TYPE_MISMATCH", { detail: `promised ${promised}, sent ${found}` });
}
