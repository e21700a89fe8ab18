import type { JsonObject } from "../matrix/answer.ts";
import type { Job } from "../uploads/job.ts";
import { isUnprepared, placeOf, valueOf } from "./encrypted-files.ts";
import { failureNotice } from "./failure-notice.ts";
import type { FailureTexts } from "./failure-texts.ts";
import type { AskedFailure } from "./records.ts";

/** What becomes of an event whose file cannot come. */
export interface FailurePolicy {
    readonly mode: FailureMode;
    readonly texts: FailureTexts;
}
export type FailureMode = "notice" | "redact" | "keep" | "callback";

/**
 * What a message's event should show, given how its files stand: the MXC URIs in their places; without a thumbnail
 * that failed; a notice in place of the message when its file failed. Pure, so that the first sending, a failure, and
 * a later success all come to the same content by the same rule.
 */
export function contentFor(
    content: JsonObject,
    jobs: readonly Job[],
    onFailure: FailurePolicy | FailureMode,
    asked?: AskedFailure,
): JsonObject {
    const { mode, texts } = typeof onFailure === "string" ? { mode: onFailure, texts: {} } : onFailure;
    const main = mode === "keep" ? undefined : failedMain(jobs);
    const answer = main !== undefined && asked?.of === failureKey(main) ? asked.answer : undefined;
    if (main !== undefined && answer === undefined) return failureNotice(content, main, texts);
    if (answer?.content !== undefined) return answer.content;
    const failed = mode === "keep" ? [] : jobs.filter((job) => hasFailed(job) && !isMain(job));
    let shown = content;
    for (const job of jobs) {
        if (job.at === undefined) continue;
        const [at, value] = [placeOf(job), failed.includes(job) ? undefined : valueOf(job)];
        if (value === undefined || job.encryption !== undefined) shown = without(shown, job.at);
        shown = value === undefined ? without(shown, at) : placed(shown, at, value);
    }
    return shown;
}

/** The file for whose sake the event says nothing any more. */
export function failedMain(jobs: readonly Job[]): Job | undefined {
    return jobs.find((job) => hasFailed(job) && isMain(job));
}

/** Names one failure of one file: the same file may fail again after another try. */
export function failureKey({ id, finishedAt = 0 }: Job): string {
    return `${id} ${finishedAt}`;
}

/** Also one that is being tried again and is not encrypted yet: it stays told as failed until there is a file to show. */
function hasFailed(job: Job): boolean {
    return job.state === "failed" || job.state === "cancelled" || isUnprepared(job);
}

/** A file without which the message is nothing; thumbnails and the like stand below `info`. */
function isMain({ at = [] }: Job): boolean {
    return at[0] !== "info" && at.at(-2) !== "info";
}

/** A copy of `content` with `value` at the path; objects are made where they are missing. */
function placed(content: JsonObject, [key = "", ...rest]: readonly string[], value: unknown): JsonObject {
    if (rest.length === 0) return { ...content, [key]: value };
    return { ...content, [key]: placed(asObject(content[key]), rest, value) };
}

function without(content: JsonObject, [key = "", ...rest]: readonly string[]): JsonObject {
    if (rest.length === 0) {
        const { [key]: _, ...others } = content;
        return others;
    }
    return key in content ? { ...content, [key]: without(asObject(content[key]), rest) } : content;
}

export function asObject(value: unknown): JsonObject {
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

/** The edit that makes an event show `content`. Spec v1.4, "Event replacements". */
export function replacement(eventId: string, content: JsonObject): JsonObject {
    const { "m.relates_to": _, ...newContent } = content;
    return {
        ...newContent,
        // Clients that know no edits show this.
        body: `* ${typeof content["body"] === "string" ? content["body"] : ""}`,
        "m.new_content": newContent,
        "m.relates_to": { rel_type: "m.replace", event_id: eventId },
    };
}

/** For event types that clients do not edit (stickers): a reply that says the same. */
export function reply(eventId: string, content: JsonObject): JsonObject {
    return { ...content, msgtype: "m.notice", "m.relates_to": { "m.in_reply_to": { event_id: eventId } } };
}

/** What the message itself says of the file at `at`: its `info` beside `url`, `thumbnail_info` beside `thumbnail_url`. */
export function describedFile(content: JsonObject, at: readonly string[]) {
    const beside = at.slice(0, -1).reduce((object, key) => asObject(object[key]), content);
    const last = at.at(-1) ?? "";
    const info = asObject(beside[/_(?:url|file)$/.test(last) ? last.replace(/_(?:url|file)$/, "_info") : "info"]);
    const { mimetype, size } = info;
    const name = last === "url" || last === "file" ? (beside["filename"] ?? beside["body"]) : undefined;
    return {
        mimetype: typeof mimetype === "string" ? mimetype : undefined,
        size: typeof size === "number" && Number.isSafeInteger(size) && size >= 0 ? size : undefined,
        filename: typeof name === "string" && name !== "" ? name.slice(0, 255) : undefined,
    };
}
