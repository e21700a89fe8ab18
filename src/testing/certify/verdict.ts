import { createDecipheriv, createHash } from "node:crypto";
import { FILE, isEncryptedRoom, messageIdIn, type PlannedFile, type PlannedMessage, TEXT } from "./messages.ts";
import type { Recorder } from "./recorder/recorder.ts";
import type { Content, RecordedEvent } from "./recorder/rooms.ts";

/** What the recorder says of an episode that has come to its end: an empty list when every promise was kept. */

/** What has to be in its room: for certain, or at most once because nobody knows whether it was journaled. */
export interface Expected {
    readonly planned: PlannedMessage;
    readonly isCertain: boolean;
}

type Recorded = Pick<Recorder, "rooms" | "media">;

export function verdict(
    recorder: Recorded,
    rooms: readonly string[],
    expected: readonly Expected[],
    bytesOf: (file: PlannedFile) => Buffer,
): string[] {
    const found: string[] = [...recorder.media.complaints];
    for (const room of rooms) {
        const recorded = recorder.rooms.events(room);
        for (const { event_id, type } of recorded)
            if (type !== (isEncryptedRoom(room) ? "m.room.encrypted" : "m.room.message"))
                found.push(`${event_id} in ${room} is sent as ${type}`);
        const events = recorded.map(opened);
        found.push(...repeated(room, events));
        const edits = new Map(events.flatMap(editOf));
        const own = events.filter((event) => editOf(event).length === 0);
        found.push(...events.flatMap((event) => wrongEdit(event, own)));
        const order = own.map(({ content }) => messageIdIn(content["body"]) ?? "");
        for (const [index, id] of order.entries())
            if (id === "") found.push(`${room}: ${own[index]?.event_id} is nobody's`);
        const numbers = order.map((id) => Number(id.slice(1)));
        for (const [index, number] of numbers.entries())
            if (number < (numbers[index - 1] ?? 0))
                found.push(`${room}: m${number} stands behind m${numbers[index - 1]}`);
        for (const { planned, isCertain } of expected) {
            if (planned.room !== room) continue;
            const indexes = order.flatMap((id, index) => (id === planned.id ? [index] : []));
            if (indexes.length > 1) found.push(`${planned.id} is in its room ${indexes.length} times`);
            if (indexes.length === 0 && isCertain) found.push(`${planned.id} was journaled and is not in its room`);
            const event = own[indexes[0] ?? -1];
            if (event === undefined) continue;
            if (event.sender !== planned.sender) found.push(`${planned.id} is said by ${event.sender}`);
            const shown = edits.get(event.event_id) ?? event.content;
            const { msgtype } = planned.files.length === 0 ? TEXT : FILE;
            if (shown["msgtype"] !== msgtype && shown["msgtype"] !== "m.notice")
                found.push(`${planned.id} is shown as ${String(shown["msgtype"])}`);
            found.push(...wrongFiles(recorder, planned, shown, bytesOf).map((wrong) => `${planned.id}: ${wrong}`));
        }
    }
    return found;
}

/** An encrypted event as a member reads it; one that cannot be read is nobody's. */
function opened(event: RecordedEvent): RecordedEvent {
    if (event.type !== "m.room.encrypted") return event;
    const text = Buffer.from(String(event.content["ciphertext"]), "base64").toString();
    try {
        const { type, content } = JSON.parse(text) as { type: string; content: Content };
        return { ...event, type, content: { ...content, ...relationOf(event.content) } };
    } catch {
        return { ...event, content: {} };
    }
}

function relationOf(content: Content): Content {
    return content["m.relates_to"] === undefined ? {} : { "m.relates_to": content["m.relates_to"] };
}

function repeated(room: string, events: readonly RecordedEvent[]): string[] {
    const seen = new Set<string>();
    const twice = events.filter(({ transactionId }) => seen.size === seen.add(transactionId).size);
    return twice.map(({ event_id }) => `${room}: ${event_id} was sent before`);
}

function editOf({ content }: RecordedEvent): [string, Content][] {
    const relation = content["m.relates_to"] as { rel_type?: string; event_id?: string } | undefined;
    if (relation?.rel_type !== "m.replace") return [];
    return [[relation.event_id ?? "", (content["m.new_content"] ?? {}) as Content]];
}

/** What is wrong with an edit: it has to be of the same sender and the same message. */
function wrongEdit(event: RecordedEvent, own: readonly RecordedEvent[]): string[] {
    return editOf(event).flatMap(([target, content]) => {
        const original = own.find(({ event_id }) => event_id === target);
        if (original === undefined) return [`${event.event_id} edits ${target}, which is no message`];
        const isSame = messageIdIn(content["body"]) === messageIdIn(original.content["body"]);
        return [
            ...(event.sender === original.sender ? [] : [`${event.event_id} edits another sender's ${target}`]),
            ...(isSame ? [] : [`${event.event_id} makes another message of ${target}`]),
        ];
    });
}

function wrongFiles(
    { media }: Recorded,
    { files, room }: PlannedMessage,
    shown: Content,
    bytesOf: (file: PlannedFile) => Buffer,
): string[] {
    const [main] = files;
    if (main === undefined) return [];
    const isNotice = shown["msgtype"] === "m.notice";
    if (main.kind === "missing") return isNotice ? [] : ["its file cannot be had, and the room is not told"];
    if (isNotice) return ["its file can be had, and the room is told that it cannot"];
    const isEncrypted = isEncryptedRoom(room);
    if (isEncrypted && /"(?:thumbnail_)?url":"mxc/.test(JSON.stringify(withoutFiles(shown))))
        return ["a file of an encrypted room stands there as a plain one"];
    return files.flatMap((file) => {
        const place = file.at.join(".");
        const { uri, secret } = addressAt(shown, file.at, isEncrypted);
        if (file.kind === "missing")
            return uri === undefined ? [] : [`${place} cannot be had, and the room still points to it`];
        if (uri === undefined) return [`${place} is not in the room`];
        const content = media.find(uri)?.content;
        if (content === undefined) return [`${place}, ${uri}, has no content`];
        const bytes = secret === undefined ? content : decrypted(content, secret);
        return bytes?.equals(bytesOf(file)) === true ? [] : [`${place}, ${uri}, has other bytes`];
    });
}

/** Encrypted files have their address inside. */
function withoutFiles(content: Content): Content {
    const info = content["info"] as Content | undefined;
    return { ...content, file: undefined, info: { ...info, thumbnail_file: undefined } };
}

interface Secret {
    readonly key: { readonly k: string };
    readonly iv: string;
    readonly hashes: { readonly sha256: string };
}

function addressAt(content: Content, at: readonly string[], isEncrypted: boolean): { uri?: string; secret?: Secret } {
    const path = isEncrypted
        ? at.map((part) => part.replace("thumbnail_url", "thumbnail_file").replace(/^url$/, "file"))
        : at;
    let value: unknown = content;
    for (const part of path) value = (value as Content | undefined)?.[part];
    if (!isEncrypted) return typeof value === "string" ? { uri: value } : {};
    const file = value as (Secret & { url?: string }) | undefined;
    return typeof file?.url === "string" ? { uri: file.url, secret: file } : {};
}

/** Client-Server API, "Sending encrypted attachments"; undefined where the hash is another one, or no key is there. */
function decrypted(ciphertext: Buffer, { key, iv, hashes }: Partial<Secret>): Buffer | undefined {
    const hash = createHash("sha256").update(ciphertext).digest("base64").replace(/=+$/, "");
    if (hash !== hashes?.sha256) return undefined;
    try {
        const secret = Buffer.from(String(key?.k), "base64url");
        return createDecipheriv("aes-256-ctr", secret, Buffer.from(String(iv), "base64")).update(ciphertext);
    } catch {
        return undefined;
    }
}
