import { setTimeout as sleep } from "node:timers/promises";
import type { RemoteFile } from "./remote-file.ts";

/** What the sample remote network delivers: the shape of a chat network's own messages, before any Matrix. */
export interface RemoteMessage {
    /** The same at every start, as a chat network's message ids are. */
    readonly id: string;
    /** The remote user, a short name in a-z. */
    readonly sender: string;
    /** Milliseconds since the epoch. */
    readonly timestamp: number;
    /** The text, or the caption of `file`. */
    readonly text?: string | undefined;
    readonly file?: Attachment | undefined;
}

export type AttachmentKind = "image" | "sticker" | "video" | "audio" | "voice" | "document";

export interface Attachment {
    readonly kind: AttachmentKind;
    readonly name: string;
    /** Where the bridge gets it. */
    readonly location: FileLocation;
    /** The file at its origin, for whoever wants to compare. */
    readonly original: RemoteFile;
    readonly width?: number | undefined;
    readonly height?: number | undefined;
    readonly durationMs?: number | undefined;
    readonly thumbnail?: Attachment | undefined;
}

export type FileLocation =
    | { readonly kind: "http"; readonly url: string; readonly headers?: Readonly<Record<string, string>> }
    | { readonly kind: "file"; readonly path: string };

export interface Conversation {
    /** The same at every start. */
    readonly id: string;
    readonly title: string;
    readonly messages: readonly RemoteMessage[];
    /**
     * Between two messages, in milliseconds: people do not type at line speed, and do not wait for each other either.
     * Undefined for what is read from an archive, one message after the other.
     */
    readonly pauseMs: number | undefined;
}

/** The messages as the network delivers them while one is connected. Ends early when `signal` fires. */
export async function* delivered(
    messages: Iterable<RemoteMessage>,
    { pauseAfter, signal }: { readonly pauseAfter: (message: RemoteMessage) => number; readonly signal: AbortSignal },
): AsyncGenerator<RemoteMessage> {
    for (const message of messages) {
        if (signal.aborted) return;
        yield message;
        const pauseMs = pauseAfter(message);
        if (pauseMs > 0) await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    }
}
