import { createCipheriv, createHash } from "node:crypto";
import type { MediaItem, MediaSource, RemoteMessage } from "../../bridge/message.ts";
import { SMALL_FILE_BYTES } from "../../uploads/places.ts";
import { Random } from "./random.ts";

/**
 * What is said in an episode. A message follows from the episode's seed and its number alone, so the process that says
 * it and the one that judges it need not tell each other anything.
 */

const ENCRYPTED = "!encrypted-";

/** Named after their episode: what a process of another one says is in none of them. */
export function roomsOf(seed: number): readonly [clear: string, clear: string, encrypted: string] {
    const rest = `${seed}:certify.example`;
    return [`!clear-1-${rest}`, `!clear-2-${rest}`, `${ENCRYPTED}${rest}`];
}

/** The rooms of these messages, each once. */
export function roomsIn(messages: readonly PlannedMessage[]): string[] {
    return [...new Set(messages.map(({ room }) => room))];
}

export function isEncryptedRoom(room: string): boolean {
    return room.startsWith(ENCRYPTED);
}

export const BOT = "@bot:certify.example";
/** The files of the second one go past the homeserver, to a presigned address. */
export const GHOSTS = ["@ghost_plain:certify.example", "@ghost_presigned:certify.example"] as const;

/** Who gets pictures. */
export const PICTURED: readonly string[] = [
    ...GHOSTS,
    ...Array.from({ length: 4 }, (_, index) => `@ghost_${index}:certify.example`),
];

/** A file of the network, by what its server does with it. */
export type FileKind =
    | "plain"
    | "no-length"
    | "missing"
    /** Refused as gone when it is first asked for. */
    | "late"
    /** By way of the network's connector, whose links run out. */
    | "linked"
    | "on-disk"
    | "handed-over"
    | "streamed"
    | "shared"
    | "connector";

export interface PlannedFile {
    readonly at: readonly string[];
    readonly kind: FileKind;
    /** At the network's server; what is shared has one name for all. */
    readonly name: string;
}

export interface PlannedMessage {
    readonly id: string;
    readonly number: number;
    readonly room: string;
    readonly sender: (typeof GHOSTS)[number];
    readonly files: readonly PlannedFile[];
    /** Said at one start only, as by a bridge whose network delivers once. */
    readonly once: boolean;
}

/** What a file's reference says until the network has given it a link. */
export const NO_LINK = "none";
/** Messages in a row. */
const SHARED_FOR = 15;
/** How a file's name ends that is not small; the message of a huge one says its size, so the component's thread takes it. */
const LARGE = "-large";
const HUGE = "-huge";

export function plan(seed: number, number: number, connectorFiles = 0): PlannedMessage {
    const random = new Random(seed ^ Math.imul(number + 1, 0x9e3779b1));
    const rooms = roomsOf(seed);
    const room = rooms[random.below(rooms.length)] ?? rooms[0];
    const sender = GHOSTS[random.below(GHOSTS.length)] ?? GHOSTS[0];
    const isText = random.next() < 0.25;
    const kinds: [number, FileKind][] = [
        [5, "plain"],
        [2, "no-length"],
        [1, "missing"],
        [3, "late"],
        [2, "linked"],
        [1, "on-disk"],
        [2, "handed-over"],
        [2, "streamed"],
        // What is encrypted is shared with nobody.
        [isEncryptedRoom(room) ? 0 : 9, "shared"],
        [connectorFiles > 0 ? 20 : 0, "connector"],
    ];
    const kind = random.pick(kinds);
    const name = (place: string): string => {
        if (kind === "shared") {
            // Said by one sender within a short time, so that several want it before it is there.
            const turn = Math.floor(number / SHARED_FOR);
            return `${seed}-shared-${GHOSTS.indexOf(sender)}-${turn}${turn % 2 === 0 ? LARGE : HUGE}`;
        }
        if (kind === "connector") return `connector-${random.below(connectorFiles)}`;
        const size = random.next();
        return `${seed}-${number}-${place}${size < 0.1 ? LARGE : size < 0.2 ? HUGE : ""}`;
    };
    const file: PlannedFile = { at: ["url"], kind, name: name("file") };
    const thumbnail: PlannedFile = {
        at: ["info", "thumbnail_url"],
        kind: random.next() < 0.2 ? "missing" : "plain",
        name: `${seed}-${number}-thumbnail`,
    };
    // Encrypted, one file of a message may need an edit that the other's key has to be there for.
    const withThumbnail = random.next() < (isEncryptedRoom(room) ? 0.7 : 0.3);
    const files = isText ? [] : withThumbnail ? [file, thumbnail] : [file];
    return { id: `m${number}`, number, room, sender, files, once: random.next() < 0.4 };
}

/** The bytes of a file of the network, from its name alone. */
export function bytesOf(name: string): Buffer {
    const seed = createHash("sha256").update(name).digest();
    const [least, span] = name.endsWith(HUGE)
        ? [SMALL_FILE_BYTES + 1, 700_000]
        : [1000, name.endsWith(LARGE) ? 700_000 : 40_000];
    const size = least + (seed.readUInt32LE(0) % span);
    const bytes = createCipheriv("aes-256-ctr", seed, Buffer.alloc(16)).update(Buffer.alloc(size));
    // Else one file in a thousand looks like a page, and is refused.
    bytes[0] = 0;
    return bytes;
}

/** What marks a message's event in its room, in the notice that takes its place too. */
export function captionOf(id: string): string {
    return `certify:${id}`;
}

/** The same after an edit. */
export function editedCaptionOf(id: string, edit: string): string {
    return `${EDITED}${edit}, ${captionOf(id)}`;
}

const EDITED = "edited by ";

/** The edit that an event's text is of; undefined where it is the message's own. */
export function editIdIn(body: unknown): string | undefined {
    return typeof body === "string" ? new RegExp(`${EDITED}(\\w+), certify:\\w+$`).exec(body)?.[1] : undefined;
}

/** The message that an event's text belongs to. */
export function messageIdIn(body: unknown): string | undefined {
    return typeof body === "string" ? /\bcertify:(\w+)$/.exec(body)?.[1] : undefined;
}

export interface Network {
    /** Where the network's file server is. */
    readonly url: string;
    /** The references of the connector that is certified. */
    readonly refs?: readonly unknown[];
    readonly stream: (bytes: Buffer) => Extract<MediaSource, { kind: "stream" }>["stream"];
    /** Where a file of this name lies. */
    readonly path: (name: string) => string;
}

export const TEXT = { msgtype: "m.text" };
export const FILE = { msgtype: "m.file", filename: "file.bin", info: { mimetype: "application/octet-stream" } };

/** The message as a bridge hands it to the component. */
export function remoteMessage(planned: PlannedMessage, network: Network): RemoteMessage {
    const { id, room: roomId, sender, files } = planned;
    const body = captionOf(id);
    if (files.length === 0) return { id, roomId, sender, content: { ...TEXT, body } };
    const content = { ...FILE, body };
    const media = files.map((file): MediaItem => {
        const isShared = file.kind === "shared" && { dedupeKey: file.name };
        const size = file.name.endsWith(HUGE) && { size: bytesOf(file.name).length };
        const source = sourceOf(file, network);
        return { at: file.at, source, mimetype: "application/octet-stream", ...size, ...isShared };
    });
    const isShared = files.some(({ kind }) => kind === "shared");
    return { id, roomId, sender, content, media, ...(isShared && { encrypted: false }) };
}

export function sourceOf({ kind, name }: PlannedFile, { url, refs = [], stream, path }: Network): MediaSource {
    switch (kind) {
        case "handed-over":
            return { kind: "buffer", data: bytesOf(name) };
        case "streamed":
            return { kind: "stream", stream: stream(bytesOf(name)) };
        case "on-disk":
            return { kind: "file", path: path(name) };
        case "connector":
            return { kind: "connector", connector: "certified", ref: refs[Number(name.split("-")[1])] };
        case "linked":
            return { kind: "connector", connector: "network", ref: { name, link: NO_LINK } };
        default:
            return { kind: "http", url: `${url}/remote/${kind}/${name}` };
    }
}
