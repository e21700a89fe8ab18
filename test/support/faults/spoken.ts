import type { RemoteMessage } from "../../../src/index.ts";

/** A message as it goes over a process channel, which speaks JSON: a buffer is given as base64. */
export type Spoken = Omit<RemoteMessage, "media"> & {
    readonly media?: readonly { readonly url?: string; readonly base64?: string; readonly dedupeKey?: string }[];
};

export function messageOf({ media, ...message }: Spoken): RemoteMessage {
    if (media === undefined) return message;
    return {
        ...message,
        media: media.map(({ url, base64 = "", ...given }) => ({
            ...given,
            at: ["url"],
            source: url === undefined ? { kind: "buffer", data: Buffer.from(base64, "base64") } : { kind: "http", url },
        })),
    };
}
