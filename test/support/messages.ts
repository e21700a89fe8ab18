import type { MediaItem, MediaSource, RemoteMessage } from "../../src/index.ts";

let count = 0;

export function textMessage(
    roomId: string,
    sender: string,
    body: string,
    extra: Partial<RemoteMessage> = {},
): RemoteMessage {
    return { id: `text/${count++}`, roomId, sender, content: { msgtype: "m.text", body }, ...extra };
}

export function photoMessage(
    roomId: string,
    sender: string,
    source: MediaSource,
    extra: Partial<RemoteMessage> = {},
    media: Partial<MediaItem> = {},
): RemoteMessage {
    return {
        id: `photo/${count++}`,
        roomId,
        sender,
        content: { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg" } },
        media: [{ at: ["url"], source, ...media }],
        ...extra,
    };
}
