import type { JsonObject } from "../matrix/answer.ts";
import type { Job } from "../uploads/job.ts";
import { isThumbnail } from "../uploads/priority.ts";
import { asObject, galleryOf, infoPath, isObject, isPlace, placed, valueAt, without } from "./content-path.ts";
import { hasNoFileYet, placeOf, valueOf } from "./encrypted-files.ts";
import { failedItem, failureNotice, itemOf } from "./failure-notice.ts";
import type { FailureTexts } from "./failure-texts.ts";
import { type AskedFailure, hashOf } from "./records.ts";

/** What becomes of an event whose file cannot come. */
export interface FailurePolicy {
    readonly mode: FailureMode;
    readonly texts: FailureTexts;
}
export type FailureMode = "notice" | "redact" | "keep" | "callback";

/**
 * What a message's event should show, given how its files stand: the MXC URIs in their places; without a thumbnail
 * that failed; a notice in place of the message when its file failed. In a gallery, where files stand in an array, a
 * failed one keeps its place with a line of text and its caption, and only when all have failed the notice comes. Pure, so that the
 * first sending, a failure, and a later success all come to the same content by the same rule.
 */
export function contentFor(
    content: JsonObject,
    files: readonly Job[],
    onFailure: FailurePolicy | FailureMode,
    asked?: AskedFailure,
): JsonObject {
    const jobs = withPlace(content, files);
    const { mode, texts } = typeof onFailure === "string" ? { mode: onFailure, texts: {} } : onFailure;
    const failed = jobs.filter(mode === "keep" ? hasNothingToShow : hasFailed);
    const main = mainOf(content, jobs, failed);
    const answer = main !== undefined && asked?.of === failureKey(main, content) ? asked.answer : undefined;
    if (answer?.content !== undefined) return answer.content;
    // Without a content in it, the event is left to show where its files would be.
    const told = answer === undefined ? failed : failed.filter((job) => isThumbnail(job.at) || hasNothingToShow(job));
    const shown = withFiles(content, jobs, told, texts);
    const missed = told.filter((job) => isMissed(shown, job));
    return missed.length === 0 ? shown : failureNotice(content, missed, texts);
}

/** The file for whose sake the event says nothing any more. */
export function failedMain(content: JsonObject, files: readonly Job[]): Job | undefined {
    const jobs = withPlace(content, files);
    return mainOf(content, jobs, jobs.filter(hasFailed));
}

function mainOf(content: JsonObject, jobs: readonly Job[], failed: readonly Job[]): Job | undefined {
    if (failed.length === 0) return undefined;
    const shown = withFiles(content, jobs, failed, {});
    return failed.find((job) => isMissed(shown, job));
}

/** An edit may have left out what a file stood in: whether that file comes is no matter any more. */
function withPlace(content: JsonObject, files: readonly Job[]): Job[] {
    return files.filter((job) => isPlace(content, placeOf(job)));
}

/** Names one failure of one file in a message that says `content`: the same file may fail again, and the text be edited. */
export function failureKey({ id, finishedAt = 0 }: Job, content: JsonObject): string {
    return `${id} ${finishedAt} ${hashOf(content)}`;
}

/** A copy of `content` with these MXC URIs in their places. */
export function withUris(
    content: JsonObject,
    files: readonly { readonly at: readonly string[]; readonly contentUri: string }[] = [],
): JsonObject {
    return files.reduce((shown, { at, contentUri }) => placed(shown, at, contentUri), content);
}

/** Also one that is being tried again and has nothing to show yet: it stays told as failed until there is a file. */
function hasFailed(job: Job): boolean {
    return job.state === "failed" || job.state === "cancelled" || hasNoFileYet(job);
}

/** Failed before its event, without an address or a key: the event cannot be as it was, for it never had the file. */
function hasNothingToShow(job: Job): boolean {
    return hasFailed(job) && valueOf(job) === undefined;
}

/** Every file in its place, but for those in `failed`. */
function withFiles(content: JsonObject, jobs: readonly Job[], failed: readonly Job[], texts: FailureTexts): JsonObject {
    let shown = content;
    for (const job of jobs) {
        if (job.at === undefined) continue;
        const [at, value] = [placeOf(job), valueOf(job)];
        // An encrypted file stands beside the place of a plain one.
        if (job.encryption !== undefined) shown = without(shown, job.at);
        if (failed.includes(job)) shown = withoutFailed(shown, job, at, texts);
        else if (value === undefined) shown = without(shown, at);
        else shown = placed(shown, at, value);
    }
    return shown;
}

/** Whether the message is nothing without this file, given what it shows without those that failed. */
function isMissed(shown: JsonObject, job: Job): boolean {
    return !isThumbnail(job.at) && !hasOthersLeft(shown, placeOf(job));
}

function withoutFailed(content: JsonObject, job: Job, at: readonly string[], texts: FailureTexts): JsonObject {
    const bare = without(content, at);
    const item = isThumbnail(at) ? undefined : itemOf(bare, job);
    return item === undefined ? bare : placed(bare, at.slice(0, -1), failedItem(item, job, texts));
}

/** Whether a file stands in a gallery that has something else to show. */
function hasOthersLeft(shown: JsonObject, at: readonly string[] = []): boolean {
    const gallery = galleryOf(shown, at);
    return gallery?.items.some((item) => isFile(valueAt(item, gallery.below))) ?? false;
}

/**
 * The edit that makes an event show `content`. Spec v1.4, "Event replacements"; v1.7, "Mentions": an edit's own mentions are
 * those that it adds.
 * @param isNews Whether somebody has said something else, and not only a file come or gone: then whom it mentions is told.
 */
export function replacement(eventId: string, content: JsonObject, isNews = false): JsonObject {
    const { "m.relates_to": _, ...newContent } = content;
    return {
        ...newContent,
        ...(!isNews && "m.mentions" in newContent && { "m.mentions": {} }),
        // Clients that know no edits show this.
        body: `* ${typeof content["body"] === "string" ? content["body"] : ""}`,
        "m.new_content": newContent,
        "m.relates_to": { rel_type: "m.replace", event_id: eventId },
    };
}

/**
 * In place of an event that is no message (a sticker), and cannot become one by an edit: a reply that says it, in the
 * event's own thread. Spec v1.4, "Threading".
 * @param relation What the event itself was sent with: no edit takes it out of its thread.
 */
export function reply(eventId: string, content: JsonObject, relation: unknown): JsonObject {
    const { rel_type, event_id } = asObject(relation);
    const thread = rel_type === "m.thread" ? { rel_type, event_id, is_falling_back: false } : {};
    const relatesTo = { ...thread, "m.in_reply_to": { event_id: eventId } };
    return { ...content, msgtype: "m.notice", "m.relates_to": relatesTo };
}

/** What the message itself says of the file at `at`: its `info` beside `url`, `thumbnail_info` beside `thumbnail_url`. */
export function describedFile(content: JsonObject, at: readonly string[]) {
    const beside = asObject(valueAt(content, at.slice(0, -1)));
    const last = at.at(-1) ?? "";
    const { mimetype, size } = asObject(valueAt(content, infoPath(at)));
    const name = last === "url" || last === "file" ? (beside["filename"] ?? beside["body"]) : undefined;
    return {
        mimetype: typeof mimetype === "string" ? mimetype : undefined,
        size: typeof size === "number" && Number.isSafeInteger(size) && size >= 0 ? size : undefined,
        filename: typeof name === "string" && name !== "" ? name.slice(0, 255) : undefined,
    };
}

/** An MXC URI, or an encrypted file with one. */
function isFile(value: unknown): boolean {
    const uri = isObject(value) ? value["url"] : value;
    return typeof uri === "string" && uri.startsWith("mxc://");
}
