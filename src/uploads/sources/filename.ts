import { parse } from "content-disposition";

const MAX_LENGTH = 255;
/** Marks that turn the direction of text, so that `exe.jpg` may be shown for `gpj.exe`. */
const DIRECTIONS = /[\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu;

/** A name as a remote gave it, made fit for an event: its last part, without what nobody should see in a name. */
export function safeFilename(text: string): string | undefined {
    const name = (text.split(/[/\\]/).at(-1) ?? "")
        .replace(/[\p{Cc}\p{Cs}]/gu, "")
        .replace(DIRECTIONS, "")
        .trim();
    return /^\.*$/.test(name) ? undefined : name.slice(0, MAX_LENGTH).replace(/\p{Cs}$/u, "");
}

/** What an HTTP answer calls its file: `Content-Disposition` (RFC 6266, 8187), else the last part of the URL's path. */
export function filenameOf(disposition: string | undefined, url: string): string | undefined {
    return fromDisposition(disposition) ?? fromPath(url);
}

function fromDisposition(header: string | undefined): string | undefined {
    if (header === undefined) return undefined;
    let name: string | undefined;
    try {
        name = parse(header).parameters["filename"];
    } catch {
        // Many servers leave out quotes or the type; such a header says nothing that could be relied on.
    }
    return name === undefined ? undefined : safeFilename(asUtf8(name));
}

/** Servers that know no `filename*` send UTF-8 as it is, and Node.js reads headers as Latin-1. */
function asUtf8(text: string): string {
    if (!/^[\0-\u00FF]*$/.test(text)) return text;
    const decoded = Buffer.from(text, "latin1").toString("utf8");
    return decoded.includes("\uFFFD") ? text : decoded;
}

function fromPath(url: string): string | undefined {
    const last = new URL(url).pathname.split("/").at(-1) ?? "";
    try {
        return safeFilename(decodeURIComponent(last));
    } catch {
        return safeFilename(last);
    }
}
