import type { RemoteMessage } from "../../../src/index.ts";

export interface SpokenFile {
    /** @default ["url"] */
    readonly at?: readonly string[];
    readonly url?: string;
    readonly base64?: string;
    readonly dedupeKey?: string;
}

/** A message as it goes over a process channel, which speaks JSON: a buffer is given as base64. */
export type Spoken = Omit<RemoteMessage, "media"> & {
    readonly media?: readonly SpokenFile[];
};

export function messageOf({ media, ...message }: Spoken): RemoteMessage {
    if (media === undefined) return message;
    return {
        ...message,
        media: media.map(({ at = ["url"], url, base64 = "", ...given }) => ({
            ...given,
            at,
            source: url === undefined ? { kind: "buffer", data: Buffer.from(base64, "base64") } : { kind: "http", url },
        })),
    };
}
