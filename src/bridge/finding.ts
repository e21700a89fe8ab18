import type { JsonObject } from "../matrix/answer.ts";
import { safeFilename } from "../uploads/sources/filename.ts";
import { asObject, infoPath } from "./content-path.ts";

/**
 * What a probe has found of a file, and how it gets into its message's content: only where the caller left something
 * out. All of it is the remote's word, so it is cut down to what an event may hold.
 */
export interface Finding {
    readonly mimetype?: string | undefined;
    readonly size?: number | undefined;
    readonly filename?: string | undefined;
    readonly info?: DescribedMedia;
}

/** What `describe` is told of a file. */
export interface KnownOfFile {
    readonly mimetype: string | undefined;
    /** Bytes. */
    readonly size: number | undefined;
    readonly filename: string | undefined;
}

/** What an event's `info` says of how a file looks or sounds. */
export interface DescribedMedia {
    readonly w?: number;
    readonly h?: number;
    /** Milliseconds. */
    readonly duration?: number;
    readonly "xyz.amorgan.blurhash"?: string;
}

/**
 * Looks at a file's first bytes, up to 64 KiB, and says what it sees. It has to be done within `timeLimits.probeMs`,
 * the opening of the source included.
 */
export type Describe = (head: Uint8Array, known: KnownOfFile) => Promise<DescribedMedia>;

const NUMBERS = ["w", "h", "duration"] as const;
const LARGEST_NUMBER = 2 ** 31 - 1;
const BLURHASH = "xyz.amorgan.blurhash";
const MIMETYPE = /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}$/;
/** Says "some bytes": nothing that the message would not say without it. */
const UNSPECIFIC = /^(?:application|binary)\/octet-stream$/;

/** What of `describe`'s answer fits into an event, which knows no fractions. */
export function describedInfo(answer: unknown): DescribedMedia {
    const given = asObject(answer);
    const info: Record<string, number | string> = {};
    for (const key of NUMBERS) {
        const value = given[key];
        if (typeof value !== "number" || !(value >= 0 && value <= LARGEST_NUMBER)) continue;
        info[key] = Math.round(value);
    }
    const blurhash = given[BLURHASH];
    if (typeof blurhash === "string" && /^[\w#$%*+,\-.:;=?@[\]^{|}~]{6,128}$/.test(blurhash)) info[BLURHASH] = blurhash;
    return info;
}

/**
 * The content with what was found of the file at `at`. A message that names no `msgtype` gets one after its file, and
 * `m.file` when nothing is known of it; one that has no text gets the file's name.
 */
export function withFinding(
    content: JsonObject,
    eventType: string,
    at: readonly string[],
    finding: Finding,
): JsonObject {
    const isMain = eventType === "m.room.message" && at.length === 1 && at[0] === "url";
    const mimetype = fitting(mimetypeOf(finding.mimetype), isMain ? content["msgtype"] : undefined);
    const found = { ...(mimetype !== undefined && { mimetype }), ...sizeOf(finding.size), ...finding.info };
    const filled = Object.keys(found).length === 0 ? content : withInfo(content, infoPath(at), found);
    return isMain ? withName(withMsgtype(filled), nameOf(finding.filename)) : filled;
}

function withInfo(content: JsonObject, [key = "", ...rest]: readonly string[], found: JsonObject): JsonObject {
    const before = asObject(content[key]);
    // What the caller said stands.
    const after = rest.length === 0 ? { ...found, ...before } : withInfo(before, rest, found);
    return { ...content, [key]: after };
}

function withMsgtype(content: JsonObject): JsonObject {
    if (content["msgtype"] !== undefined) return content;
    const { mimetype } = asObject(content["info"]);
    return { ...content, msgtype: msgtypeFor(mimetype) };
}

function withName(content: JsonObject, filename: string | undefined): JsonObject {
    const { body } = content;
    const given = content["filename"];
    if (typeof body !== "string" || body === "") return { ...content, body: given ?? filename ?? "file" };
    // Beside a name of its own, the text is a caption. Spec v1.10, "Media captions".
    return given !== undefined || filename === undefined || filename === body ? content : { ...content, filename };
}

function msgtypeFor(mimetype: unknown): string {
    const family = typeof mimetype === "string" ? /^(image|video|audio)\//.exec(mimetype)?.[1] : undefined;
    return family === undefined ? "m.file" : `m.${family}`;
}

/** A source that sends a page where the message says picture has not told the picture's type. */
function fitting(mimetype: string | undefined, msgtype: unknown): string | undefined {
    const isMedia = msgtype === "m.image" || msgtype === "m.video" || msgtype === "m.audio";
    return isMedia && msgtypeFor(mimetype) !== msgtype ? undefined : mimetype;
}

function mimetypeOf(announced: string | undefined): string | undefined {
    const mimetype = announced?.split(";")[0]?.trim().toLowerCase() ?? "";
    return MIMETYPE.test(mimetype) && !UNSPECIFIC.test(mimetype) ? mimetype : undefined;
}

function sizeOf(size: number | undefined): { size?: number } {
    return size !== undefined && Number.isSafeInteger(size) && size >= 0 ? { size } : {};
}

function nameOf(filename: string | undefined): string | undefined {
    return filename === undefined ? undefined : safeFilename(filename);
}
