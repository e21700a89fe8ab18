import type { Readable } from "node:stream";
import type { JobState, StoredError } from "../uploads/job.ts";
import type { SourceDescription } from "../uploads/sources/source.ts";

/** Bytes that a caller has in hand. They are copied to disk before the message is journaled. */
export type HandedOver =
    | { readonly kind: "buffer"; readonly data: Uint8Array }
    | { readonly kind: "stream"; readonly stream: Readable };

/** Everything a media's bytes can come from. */
export type MediaSource = Exclude<SourceDescription, { kind: "spool" }> | HandedOver;

/** One file of a message. */
export interface MediaItem {
    /** Where in `content` its MXC URI goes: `["url"]`, `["info", "thumbnail_url"]`. */
    readonly at: readonly string[];
    readonly source: MediaSource;
    /** @default what `content` says beside `at`: `info.mimetype`, or `thumbnail_info.mimetype` */
    readonly mimetype?: string;
    /** Bytes. @default what `content` says beside `at` */
    readonly size?: number;
    /** @default `content.filename`, else `content.body` */
    readonly filename?: string;
    /**
     * Names the file itself (a sticker's or an avatar's id in its network): what has the same key and the same uploader
     * is uploaded once and keeps its MXC URI. 1 to 512 characters. @default none: a file of its own
     */
    readonly dedupeKey?: string;
    /** What was made of the file on the way (a size, a format, a version of the converter): part of the key. */
    readonly transformVersion?: string | number;
    /** Where everybody may fetch the file: an http(s) link that the room is shown when the file cannot come. @default none */
    readonly publicUrl?: string;
    /** SHA-256 of the file, 64 hex digits: checked before the last piece goes out. @default not checked */
    readonly sha256?: string;
    /**
     * Opens the source before the message is sent, for at most `timeLimits.probeMs`, and fills in what `content` leaves
     * out: `msgtype`, `body` or `filename`, `info`. For `http`, `file` and `connector`. @default false
     */
    readonly probeHeaders?: boolean;
}

/** What a chat network delivered, as `send()` takes it. */
export interface RemoteMessage {
    /** The remote message's own id, unique over the whole bridge; makes `send()` repeatable. 1 to 512 characters. */
    readonly id: string;
    readonly roomId: string;
    /** The ghost (or the bot) that says it. */
    readonly sender: string;
    /** Becomes `origin_server_ts`; milliseconds. @default when the homeserver accepts it */
    readonly timestamp?: number;
    /** @default "m.room.message" */
    readonly eventType?: string;
    /** The event's content without the MXC URIs. */
    readonly content: { readonly [key: string]: unknown };
    /** Up to 20. @default none: a text message, which keeps its order with the others */
    readonly media?: readonly MediaItem[];
    /**
     * Whether the event and its files are encrypted. `true` never falls back to cleartext.
     * @default whether the room is, where the sender's client has encryption; else false
     */
    readonly encrypted?: boolean;
    /** History that is filled in: its files give way to live ones. @default false */
    readonly backfill?: boolean;
}

/** What a chat network said of a message that it had delivered before, as `edit()` takes it. */
export interface MessageEdit {
    /** The edit's own id, unique over all messages and edits; makes `edit()` repeatable. 1 to 512 characters. */
    readonly id: string;
    /** The event's new content without the MXC URIs: the message's files stay in their places. */
    readonly content: { readonly [key: string]: unknown };
    /** Becomes `origin_server_ts`; milliseconds. @default when the homeserver accepts it */
    readonly timestamp?: number;
}

/** An edit that the homeserver has accepted. */
export interface SentEdit {
    readonly id: string;
    readonly roomId: string;
    /** Of the edit. */
    readonly eventId: string;
}

export interface CancelOptions {
    /** Whether the event is redacted too. @default false: it is edited as after a failure */
    readonly redact?: boolean;
}

/** One file of a sent message. */
export interface UploadHandle {
    readonly jobId: string;
    readonly at: readonly string[];
    /** Undefined only where the server has no `/create` and the file failed before its message was sent. */
    readonly contentUri: string | undefined;
    /** Resolves when the file is there; rejects with a MediaError when it failed for good or was cancelled. */
    readonly done: Promise<JobInfo>;
}

/** A message that the homeserver has accepted. */
export interface SentMessage {
    readonly id: string;
    readonly roomId: string;
    readonly eventId: string;
    /** In the order of `media`. */
    readonly uploads: readonly UploadHandle[];
}

/** What `upload()` gives: an MXC URI that can be used at once, and the file's arrival. */
export interface PendingUpload {
    readonly jobId: string;
    readonly contentUri: string;
    readonly done: Promise<JobInfo>;
}

/** An upload job as it may be shown: no credentials, no query of a URL. */
export interface JobInfo {
    readonly id: string;
    readonly state: JobState;
    readonly uploader: string;
    /** Undefined while nothing is reserved yet. */
    readonly contentUri: string | undefined;
    readonly messageId: string | undefined;
    readonly roomId: string | undefined;
    readonly at: readonly string[] | undefined;
    readonly filename: string | undefined;
    readonly mimetype: string | undefined;
    /** Bytes; undefined while unknown. */
    readonly size: number | undefined;
    /** Bytes read from the source in the current try; `jobs()` says 0, because no journal is written for them. */
    readonly transferredBytes: number;
    /** Tries that failed by the file's own fault. */
    readonly attempts: number;
    /** Why the last try failed. */
    readonly error: StoredError | undefined;
    /** Milliseconds since the epoch. */
    readonly createdAt: number;
    readonly finishedAt: number | undefined;
    /** The job that has its place, when its address had ended before the file was there. */
    readonly replacedBy: string | undefined;
}
