import type { JobInfo, MediaSource, PendingUpload, UploadHandle } from "../message.ts";
import type { UploadOptions } from "../message-check.ts";
import type { MessageRecord } from "../records.ts";
import type { SharedFile } from "./shared-file.ts";

/** What callers get for a file that is there already: the handle of an upload that has ended. */

/** A message's handles with those of its shared files among them, in the order of `media`. */
export function withShared(uploads: readonly UploadHandle[], message: MessageRecord): UploadHandle[] {
    const all = [...uploads];
    const { id: messageId, roomId, sender: uploader, finishedAt = 0 } = message;
    for (const { index, at, jobId, contentUri, size } of message.shared ?? []) {
        const info = doneInfo({ id: jobId, contentUri, size, uploader, messageId, roomId, at, finishedAt });
        all.splice(index, 0, { jobId, at, contentUri, done: Promise.resolve(info) });
    }
    return all;
}

export function uploadAtHand(
    { contentUri, uploader, size, leader = "", checkedAt: finishedAt }: SharedFile,
    source: MediaSource,
    { filename, mimetype }: Pick<UploadOptions, "filename" | "mimetype">,
): PendingUpload {
    if (source.kind === "stream") source.stream.destroy();
    const info = doneInfo({ id: leader, contentUri, size, uploader, filename, mimetype, finishedAt });
    return { jobId: leader, contentUri, done: Promise.resolve(info) };
}

function doneInfo(
    known: Pick<JobInfo, "id" | "contentUri" | "size" | "uploader" | "finishedAt"> & Partial<JobInfo>,
): JobInfo {
    return {
        messageId: undefined,
        roomId: undefined,
        at: undefined,
        filename: undefined,
        mimetype: undefined,
        error: undefined,
        replacedBy: undefined,
        attempts: 0,
        transferredBytes: known.size ?? 0,
        createdAt: known.finishedAt ?? 0,
        ...known,
        state: "done",
    };
}
