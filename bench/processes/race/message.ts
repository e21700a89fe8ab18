/** One message of the remote network, as every contestant is given it. */
export interface RaceMessage {
    /** The event's body, by which the homeserver tells it from others. */
    readonly key: string;
    readonly roomId: string;
    readonly sender: string;
    /** When it comes, after the beginning of the heat. */
    readonly atMs: number;
    /** Absent: a text. */
    readonly file?: { readonly url: string; readonly size: number };
}

/** A contestant's part of the world. */
export interface Start {
    readonly homeserverUrl: string;
    readonly accessToken: string;
    readonly serverName: string;
    readonly dataDir: string;
    /** For those that bound their transfers. */
    readonly concurrency: number;
}

export const MIMETYPE = "application/octet-stream";

/** The event's content without the address of its file. */
export function contentOf({ key, file }: RaceMessage) {
    if (file === undefined) return { msgtype: "m.text", body: key };
    return { msgtype: "m.file", body: key, info: { mimetype: MIMETYPE, size: file.size } };
}
