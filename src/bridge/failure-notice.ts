import { ERRORS } from "../errors.ts";
import type { JsonObject } from "../matrix/answer.ts";
import type { Job } from "../uploads/job.ts";
import { type FailureTexts, filled, type Placeholder, templateFor, unnamed } from "./failure-texts.ts";

/**
 * The content that stands in the room for a file that cannot come: what it was, why it is not there, and the caption
 * its sender wrote. What the source or the homeserver answered word by word is not in it: that may hold a secret.
 */
export function failureNotice(content: JsonObject, job: Job, texts: FailureTexts = {}): JsonObject {
    const template = templateFor(codeOf(job), texts);
    const values = valuesOf(job, texts);
    const line = filled(template, values);
    const caption = captionOf(content);
    const captionHtml = caption === undefined ? undefined : content["formatted_body"];
    const html = typeof captionHtml === "string" ? captionHtml : undefined;
    const hasHtml = html !== undefined || job.publicUrl !== undefined;
    const shownCaption = html ?? (caption === undefined ? undefined : escapeHtml(caption).replaceAll("\n", "<br>"));
    const htmlLine = filled(template, asHtml(values), escapeHtml);
    return {
        msgtype: "m.notice",
        body: caption === undefined ? line : `${line}\n\n${caption}`,
        ...(hasHtml && {
            format: "org.matrix.custom.html",
            formatted_body: shownCaption === undefined ? htmlLine : `${htmlLine}<br><br>${shownCaption}`,
        }),
        ...(content["m.relates_to"] !== undefined && { "m.relates_to": content["m.relates_to"] }),
    };
}

/** What is said of a file that cannot come: its name, its size, and why. */
export function failureLine(job: Job, texts: FailureTexts): string {
    return filled(templateFor(codeOf(job), texts), valuesOf(job, texts));
}

export function codeOf(job: Job): keyof typeof ERRORS {
    return job.state === "cancelled" ? "CANCELLED" : (job.error?.code ?? "CANCELLED");
}

function valuesOf(job: Job, texts: FailureTexts): Record<Placeholder, string | undefined> {
    const { size, filename, publicUrl, error } = job;
    return {
        name: filename ?? unnamed(texts),
        size: size === undefined ? undefined : byteSize(size),
        limit: error?.limit === undefined ? undefined : byteSize(error.limit),
        reason: ERRORS[codeOf(job)].message,
        link: publicUrl,
    };
}

function asHtml(values: Record<Placeholder, string | undefined>): Record<Placeholder, string | undefined> {
    const escaped = (text: string | undefined) => text && escapeHtml(text);
    const { name, size, limit, reason, link } = values;
    const href = escaped(link);
    return {
        name: escaped(name),
        size: escaped(size),
        limit: escaped(limit),
        reason: escaped(reason),
        link: href === undefined ? undefined : `<a href="${href}">${href}</a>`,
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
