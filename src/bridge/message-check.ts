import { Readable } from "node:stream";
import { z } from "zod";
import { check } from "./check.ts";
import { isPlace } from "./content-path.ts";
import { plainPlaceOf } from "./encrypted-files.ts";
import { json, jsonObject } from "./json-check.ts";
import type { JobState } from "../uploads/job.ts";
import type { CancelOptions, MediaItem, MediaSource, MessageEdit, RemoteMessage } from "./message.ts";

/** The door of the calls: what is malformed is refused here, by the field's name, before anything is written. */

/** The homeserver's own limit for a whole event is 65,536 bytes; the rest is left to its other fields. */
const MAX_CONTENT_BYTES = 60_000;
const MAX_MEDIA = 20;
/** Keys that would reach into every object instead of one. */
const FORBIDDEN_KEYS = new Set(["__proto__", "constructor", "prototype"]);

const text = (max: number) => z.string().min(1).max(max);
const idText = text(512).regex(/^\P{Cc}+$/u, "must not contain control characters");
const userId = text(255).regex(/^@[^\s:]*:\S+$/, "must be a user id: @localpart:server");
const roomId = text(255).regex(/^!\S+$/, "must be a room id: !…");
const size = z.int().nonnegative();
const mimetype = text(255).regex(
    /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?:\s*;[\x20-\x7e]*)?$/,
    "must be a media type: image/jpeg",
);
// A header value ends at a line break; Node would refuse it only when the transfer begins.
const headers = z.record(
    text(255).regex(/^[\w!#$%&'*+.^`|~-]+$/),
    z
        .string()
        .max(16_384)
        .regex(/^[^\r\n\0]*$/),
);
const sha256 = z
    .string()
    .regex(/^[\da-f]{64}$/i, "must be 64 hex digits")
    .toLowerCase();

const httpUrl = z
    .string()
    .max(16_384)
    // Parsed into an object only where the scheme is not plain to see.
    .refine(
        (url) => URL.canParse(url) && (/^https?:/i.test(url) || /^https?:$/.test(new URL(url).protocol)),
        "must be an http(s) URL",
    );

/** Shown to the room: nothing in it may be a secret. */
const publicUrl = httpUrl
    .max(2048)
    .refine((url) => !URL.canParse(url) || (new URL(url).username === "" && new URL(url).password === ""), {
        message: "must not hold credentials",
    });

const content = jsonObject(MAX_CONTENT_BYTES);

const source = z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("http"), url: httpUrl, headers: headers.optional() }),
    z.strictObject({ kind: z.literal("file"), path: text(4096) }),
    z.strictObject({ kind: z.literal("connector"), connector: text(255), ref: json }),
    z.strictObject({ kind: z.literal("buffer"), data: z.instanceof(Uint8Array) }),
    z.strictObject({ kind: z.literal("stream"), stream: z.instanceof(Readable) }),
]);

const sharing = {
    dedupeKey: idText.optional(),
    transformVersion: z.union([z.int(), text(64)]).optional(),
};

const media = z
    .strictObject({
        at: z
            .array(text(255).refine((key) => !FORBIDDEN_KEYS.has(key), "is not a key of an event"))
            .min(1)
            .max(8),
        source,
        mimetype: mimetype.optional(),
        size: size.optional(),
        filename: text(1024).optional(),
        publicUrl: publicUrl.optional(),
        sha256: sha256.optional(),
        probeHeaders: z.boolean().optional(),
        ...sharing,
    })
    .refine(({ source: { kind }, probeHeaders }) => probeHeaders !== true || (kind !== "buffer" && kind !== "stream"), {
        path: ["probeHeaders"],
        message: "is for sources that are opened: http, file, connector",
    });

const fields = z.strictObject({
    id: idText,
    roomId,
    sender: userId,
    timestamp: size.optional(),
    eventType: text(255).optional(),
    content,
    media: z.array(media).max(MAX_MEDIA).optional(),
    encrypted: z.boolean().optional(),
    backfill: z.boolean().optional(),
});

const message = fields.transform(inPlainPlaces).superRefine(({ content, media = [] }, context) => {
    if (media.length > 1 && new Set(media.map(({ at }) => at.join("\0"))).size < media.length)
        context.addIssue({ code: "custom", message: "must not name the same place twice", path: ["media"] });
    for (const [index, { at }] of media.entries()) {
        if (isPlace(content, at)) continue;
        const text = "must name elements of arrays that content has";
        context.addIssue({ code: "custom", message: text, path: ["media", index, "at"] });
    }
});

const edit = z.strictObject({ id: idText, content, timestamp: size.optional() });

const cancelOptions = z.strictObject({ redact: z.boolean().optional() });

const uploadOptions = z.strictObject({
    userId,
    mimetype: mimetype.optional(),
    size: size.optional(),
    filename: text(1024).optional(),
    sha256: sha256.optional(),
    backfill: z.boolean().optional(),
    ...sharing,
});

const STATES: Record<JobState, true> = {
    unreserved: true,
    reserved: true,
    ready: true,
    transferring: true,
    completing: true,
    done: true,
    failed: true,
    cancelled: true,
    replaced: true,
};
const jobFilter = z.strictObject({ state: z.enum(Object.keys(STATES) as JobState[]).optional() });
const jobEvent = z.literal("job", 'must be "job"');
const listenerOf = z.custom((value) => typeof value === "function", "must be a function");

const avatarOptions = uploadOptions.omit({ userId: true, backfill: true });
const roomAvatarOptions = avatarOptions.extend({ sender: userId.optional() });

/**
 * Where a file stands in an encrypted room (`file`, `thumbnail_file`) is one place with where it stands in the clear. Which
 * of the two it is, is found out only later. Events of a bridge's own type have what keys they like.
 */
function inPlainPlaces<T extends z.output<typeof fields>>(message: T): T {
    const { eventType = "m.room.message", media } = message;
    if (eventType !== "m.room.message" && eventType !== "m.sticker") return message;
    // Mostly so, and then nothing is copied.
    if (media === undefined || media.every(({ at }) => plainPlaceOf(at) === at)) return message;
    return { ...message, media: media.map((item) => ({ ...item, at: plainPlaceOf(item.at) })) };
}

/** What is known of a picture's file. */
export type AvatarOptions = Omit<UploadOptions, "userId" | "backfill">;

/** Who uploads, and what is known of the file. */
export type UploadOptions = { readonly userId: string; readonly backfill?: boolean } & Pick<
    MediaItem,
    "mimetype" | "size" | "filename" | "sha256" | "dedupeKey" | "transformVersion"
>;

export function checkMessage(input: unknown): RemoteMessage {
    return check(message, input, "INVALID_ARGUMENT", "message") as RemoteMessage;
}

export function checkEdit(input: unknown): MessageEdit {
    return check(edit, input, "INVALID_ARGUMENT", "edit") as MessageEdit;
}

export function checkCancelOptions(input: unknown): CancelOptions {
    return check(cancelOptions, input, "INVALID_ARGUMENT", "options") as CancelOptions;
}

/** Whether a room may be shown this link; the door of what a connector says. */
export function isPublicUrl(value: unknown): value is string {
    return publicUrl.safeParse(value).success;
}

/** Whether this can be an event's content; the door of what `onFailure` answers. */
export function isEventContent(value: unknown): value is Record<string, unknown> {
    return content.safeParse(value).success;
}

/** Throws INVALID_ARGUMENT naming what is wrong with what `jobs()` is asked for. */
export function checkJobFilter(input: unknown): { readonly state?: JobState | undefined } {
    return check(jobFilter, input, "INVALID_ARGUMENT", "filter");
}

/** Throws INVALID_ARGUMENT naming what is wrong with what is to be listened to, or with who listens. */
export function checkListener(event: unknown, listener: unknown): void {
    check(jobEvent, event, "INVALID_ARGUMENT", "event");
    check(listenerOf, listener, "INVALID_ARGUMENT", "listener");
}

export function checkSource(input: unknown): MediaSource {
    return check(source, input, "INVALID_ARGUMENT", "source") as MediaSource;
}

/** Throws INVALID_ARGUMENT naming what is wrong with the user of a picture, or what is said of its file. */
export function checkAvatar(user: unknown, options: unknown): AvatarOptions {
    check(userId, user, "INVALID_ARGUMENT", "userId");
    return check(avatarOptions, options, "INVALID_ARGUMENT", "options") as AvatarOptions;
}

/** Throws INVALID_ARGUMENT likewise for a room's picture. */
export function checkRoomAvatar(room: unknown, options: unknown): AvatarOptions & { readonly sender?: string } {
    check(roomId, room, "INVALID_ARGUMENT", "roomId");
    return check(roomAvatarOptions, options, "INVALID_ARGUMENT", "options") as AvatarOptions & { sender?: string };
}

export function checkUploadOptions(input: unknown): UploadOptions {
    return check(uploadOptions, input, "INVALID_ARGUMENT", "options") as UploadOptions;
}
