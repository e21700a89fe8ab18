import type { SeenEvent } from "./room-view.ts";

/** What a member with the room's keys reads in an event that the stand-in for Megolm has encrypted. */
export function clear(event: SeenEvent | undefined): { type: string; content: Readonly<Record<string, unknown>> } {
    if (event?.type !== "m.room.encrypted") throw new Error(`Not encrypted: ${event?.type}`);
    return JSON.parse(Buffer.from(String(event.content["ciphertext"]), "base64").toString()) as ReturnType<
        typeof clear
    >;
}

/** The same of an edit: what it puts in place of the event. */
export function clearEdit(event: SeenEvent | undefined): Readonly<Record<string, unknown>> {
    return clear(event).content["m.new_content"] as Readonly<Record<string, unknown>>;
}

/** A file of an encrypted room (spec, "EncryptedFile"). */
export interface EncryptedFile {
    readonly v: string;
    readonly url: string;
    readonly iv: string;
    readonly key: { readonly k: string } & Readonly<Record<string, unknown>>;
    readonly hashes: { readonly sha256: string };
}
