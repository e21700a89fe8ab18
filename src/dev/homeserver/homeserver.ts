/** The embedded homeserver as the one who started it sees it. */
import type { StoredEvent } from "./event.ts";
import type { Intercept, InterceptedRequest, RequestRecord } from "./faults.ts";
import type { StoredMedia } from "./media-store.ts";

export interface Homeserver {
    readonly url: string;
    readonly serverName: string;
    /** The state folder: a second homeserver started with it after close() goes on where this one stopped. */
    readonly dataDir: string;
    /** An ordinary user, no appservice's ghost; the same one again when asked twice, also after a restart. */
    createUser(localpart: string): { readonly userId: string; readonly accessToken: string };
    close(): Promise<void>;
    /** A room's timeline, oldest first; the array grows as events arrive. Empty for an unknown room. */
    events(roomId: string): readonly StoredEvent[];
    /** The content behind an MXC URI; undefined while there is none, reserved or not. */
    media(mxc: string): StoredMedia | undefined;
    /** Media IDs the user has reserved that have neither content nor expired. */
    pendingMedia(userId: string): number;
    /** Requests answered so far, in the order of their answers; the last 100,000 at most. */
    readonly requests: readonly RequestRecord[];
    /** Lets `decide` see each request before it is handled and spoil it; returns what takes `decide` out again. */
    intercept(decide: (request: InterceptedRequest) => Intercept | undefined): () => void;
}
