import type { ErrorCode } from "../errors.ts";
import type { JsonObject } from "../matrix/answer.ts";
import { failureOf, type Job } from "../uploads/job.ts";
import { galleryOf, isObject, valueAt } from "./content-path.ts";
import { type FailureTexts, filled, type Placeholder, roomReason, templateFor, unnamed } from "./failure-texts.ts";

/**
 * The content that stands in the room for files that cannot come: what each was, why it is not there, and the captions
 * their sender wrote. What the source or the homeserver answered word by word is not in it: that may hold a secret.
 * @param missed Those files, in the order of `media`: one, or all of a gallery.
 */
export function failureNotice(content: JsonObject, missed: readonly Job[], texts: FailureTexts): JsonObject {
    const items = missed.map((job) => itemOf(content, job));
    const said = missed.flatMap((job, index) => [lineOf(job, texts), ...captionOf(items[index] ?? {})]);
    const isGallery = items.some((item) => item !== undefined);
    return {
        msgtype: "m.notice",
        ...joined([...said, ...captionOf(isGallery ? { filename: "", ...content } : content)]),
        ...(content["m.relates_to"] !== undefined && { "m.relates_to": content["m.relates_to"] }),
    };
}

/** An element of a gallery whose file cannot come: why, and its caption. */
export function failedItem(item: JsonObject, job: Job, texts: FailureTexts): JsonObject {
    const { format: _format, formatted_body: _html, ...others } = item;
    return { ...others, ...joined([lineOf(job, texts), ...captionOf(item)]) };
}

/** The element of a gallery that describes the job's file. */
export function itemOf(content: JsonObject, { at = [] }: Job): JsonObject | undefined {
    const item = galleryOf(content, at) === undefined ? undefined : valueAt(content, at.slice(0, -1));
    return isObject(item) ? item : undefined;
}

/** A part of a text that clients show as HTML where any of its parts has some. */
interface Said {
    readonly plain: string;
    readonly html: string | undefined;
}

function joined(said: readonly Said[]): JsonObject {
    const body = said.map(({ plain }) => plain).join("\n\n");
    if (said.every(({ html }) => html === undefined)) return { body };
    const html = said.map((part) => part.html ?? escapeHtml(part.plain).replaceAll("\n", "<br>"));
    return { body, format: "org.matrix.custom.html", formatted_body: html.join("<br><br>") };
}

/** What is said of a file that cannot come: its name, its size, and why. */
function lineOf(job: Job, texts: FailureTexts): Said {
    const template = templateFor(codeOf(job), texts);
    const values = valuesOf(job, texts);
    const html = job.publicUrl === undefined ? undefined : filled(template, asHtml(values), escapeHtml);
    return { plain: filled(template, values), html };
}

export function codeOf(job: Job): ErrorCode {
    const error = job.state === "cancelled" ? failureOf(job) : job.error;
    return error?.code ?? "CANCELLED";
}

function valuesOf(job: Job, texts: FailureTexts): Record<Placeholder, string | undefined> {
    const { size, filename, publicUrl, error } = job;
    return {
        name: filename ?? unnamed(texts),
        size: size === undefined ? undefined : byteSize(size),
        limit: error?.limit === undefined ? undefined : byteSize(error.limit),
        reason: roomReason(codeOf(job), texts),
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
function captionOf({ body, filename, formatted_body: html }: JsonObject): Said[] {
    if (typeof body !== "string" || typeof filename !== "string" || body === filename || body === "") return [];
    return [{ plain: body, html: typeof html === "string" ? html : undefined }];
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
