import type { RemoteMessage as SendRequest } from "../../index.ts";
import type { Attachment, AttachmentKind, RemoteMessage } from "../network/remote-message.ts";
import { REMOTE_ID } from "./timeline.ts";

/** What a bridge does with a remote message: says it in Matrix's words, and where its files come from. */
export function outgoing(message: RemoteMessage, { roomId, sender }: { roomId: string; sender: string }): SendRequest {
    const { id, timestamp, file, text } = message;
    const envelope = { id, roomId, sender, timestamp };
    if (file === undefined) return { ...envelope, content: { msgtype: "m.text", body: text ?? "", [REMOTE_ID]: id } };
    const request = {
        ...envelope,
        content: { ...fileContent(file, text), [REMOTE_ID]: id },
        media: attachedFiles(message).map(({ path, file }) => ({ at: path, source: file.location })),
    };
    return file.kind === "sticker" ? { ...request, eventType: "m.sticker" } : request;
}

/** Each file of a message, with the place of its MXC URI in the event's content. */
export function attachedFiles({
    file,
}: RemoteMessage): readonly { readonly path: readonly string[]; readonly file: Attachment }[] {
    if (file === undefined) return [];
    const own = { path: ["url"], file };
    return file.thumbnail === undefined ? [own] : [own, { path: ["info", "thumbnail_url"], file: file.thumbnail }];
}

const MSGTYPES: Readonly<Record<AttachmentKind, string | undefined>> = {
    image: "m.image",
    sticker: undefined,
    video: "m.video",
    audio: "m.audio",
    voice: "m.audio",
    document: "m.file",
};

function fileContent(file: Attachment, caption: string | undefined): Record<string, unknown> {
    const msgtype = MSGTYPES[file.kind];
    return {
        ...(msgtype !== undefined && { msgtype, filename: file.name }),
        // Spec v1.10, "Media captions": with a filename that differs from it, the body is the caption.
        body: caption ?? file.name,
        info: {
            ...info(file),
            ...(file.thumbnail !== undefined && { thumbnail_info: info(file.thumbnail) }),
        },
        // MSC3245: shown as a voice message rather than a piece of music.
        ...(file.kind === "voice" && { "org.matrix.msc3245.voice": {} }),
    };
}

function info({ original, width, height, durationMs }: Attachment): Record<string, unknown> {
    return {
        mimetype: original.mimetype,
        size: original.size,
        ...(width !== undefined && { w: width }),
        ...(height !== undefined && { h: height }),
        ...(durationMs !== undefined && { duration: durationMs }),
    };
}
