import { ERRORS } from "../errors.ts";
import type { JsonObject } from "../matrix/answer.ts";
import type { Job } from "../uploads/job.ts";

/**
 * The content that stands in the room for a file that cannot come: what it was, why it is not there, and the caption
 * its sender wrote. What the source or the homeserver answered word by word is not in it: that may hold a secret.
 */
export function failureNotice(content: JsonObject, job: Job): JsonObject {
    const name = job.filename ?? "A file";
    const size = job.size === undefined ? "" : ` (${byteSize(job.size)})`;
    const reason = job.error === undefined ? ERRORS.CANCELLED.message : ERRORS[job.error.code].message;
    const line = `${name}${size} could not be bridged: ${reason}`;
    const caption = captionOf(content);
    const html = caption === undefined ? undefined : content["formatted_body"];
    return {
        msgtype: "m.notice",
        body: caption === undefined ? line : `${line}\n\n${caption}`,
        ...(typeof html === "string" && {
            format: "org.matrix.custom.html",
            formatted_body: `${escapeHtml(line)}<br><br>${html}`,
        }),
        ...(content["m.relates_to"] !== undefined && { "m.relates_to": content["m.relates_to"] }),
    };
}

/** Spec v1.10, "Media captions": the body is a caption when a filename is given and differs from it. */
function captionOf({ body, filename }: JsonObject): string | undefined {
    if (typeof body !== "string" || typeof filename !== "string" || body === filename || body === "") return undefined;
    return body;
}

function escapeHtml(text: string): string {
    return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** `48 KiB`, for people. */
export function byteSize(bytes: number): string {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
    const value = bytes / 2 ** (10 * power);
    return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
