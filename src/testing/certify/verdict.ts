import { createDecipheriv, createHash } from "node:crypto";
import {
    editIdIn,
    FILE,
    isEncryptedRoom,
    messageIdIn,
    type PlannedFile,
    type PlannedMessage,
    TEXT,
} from "./messages.ts";
import type { Recorder } from "./recorder/recorder.ts";
import type { Content, RecordedEvent } from "./recorder/rooms.ts";
import { editOf, type ExpectedDeed, wrongEdits, wrongRedactions, wrongTakingBack } from "./sequels.ts";

/** What the recorder says of an episode that has come to its end: an empty list when every promise was kept. */

/** What has to be in its room: for certain, or at most once because nobody knows whether it was journaled. */
export interface Expected {
    readonly planned: PlannedMessage;
    readonly isCertain: boolean;
    /** What was done to it. @default nothing */
    readonly deeds?: readonly ExpectedDeed[];
}

type Recorded = Pick<Recorder, "rooms" | "media"> & { readonly network: Pick<Recorder["network"], "hasRefused"> };

export function verdict(
    recorder: Recorded,
    rooms: readonly string[],
    expected: readonly Expected[],
    bytesOf: (file: PlannedFile) => Buffer,
): string[] {
    const found: string[] = [...recorder.media.complaints];
    for (const room of rooms) {
        const recorded = recorder.rooms.events(room);
        const [type, redaction] = [isEncryptedRoom(room) ? "m.room.encrypted" : "m.room.message", "m.room.redaction"];
        for (const event of recorded)
            if (event.type !== type && event.type !== redaction)
                found.push(`${event.event_id} in ${room} is sent as ${event.type}`);
        found.push(...repeated(room, recorded));
        const here = expected.filter(({ planned }) => planned.room === room);
        found.push(...judged(recorder, room, recorded.map(opened), here, bytesOf));
    }
    return found;
}

/** @param all The room's events, those of edits and redactions too. */
function judged(
    recorder: Recorded,
    room: string,
    all: readonly RecordedEvent[],
    expected: readonly Expected[],
    bytesOf: (file: PlannedFile) => Buffer,
): string[] {
    const events = all.filter(({ type }) => type !== "m.room.redaction");
    const own = events.filter((event) => editOf(event) === undefined);
    const found = events.flatMap((event) => wrongEdit(event, own));
    const ids = own.map(({ content }) => messageIdIn(content["body"]) ?? "");
    for (const [index, id] of ids.entries()) if (id === "") found.push(`${room}: ${own[index]?.event_id} is nobody's`);
    found.push(...wrongOrder(room, events, expected));
    const byId = new Map(expected.map((one) => [one.planned.id, one]));
    const mayBeTakenBack = (event: RecordedEvent): boolean => {
        const { content } = own.find(({ event_id }) => event_id === editOf(event)?.target) ?? event;
        return isTakenBack(byId.get(messageIdIn(content["body"]) ?? ""));
    };
    found.push(...wrongRedactions(room, all, mayBeTakenBack));
    for (const one of expected) {
        const { planned, isCertain, deeds = [] } = one;
        const indexes = ids.flatMap((id, index) => (id === planned.id ? [index] : []));
        if (indexes.length > 1) found.push(`${planned.id} is in its room ${indexes.length} times`);
        if (indexes.length === 0 && isCertain && !isTakenBack(one, true))
            found.push(`${planned.id} was journaled and is not in its room`);
        const event = own[indexes[0] ?? -1];
        if (event === undefined) continue;
        if (event.sender !== planned.sender) found.push(`${planned.id} is said by ${event.sender}`);
        if (all.some(({ redacts }) => redacts === event.event_id)) {
            found.push(...wrongTakingBack(planned, event, all));
            continue;
        }
        if (isTakenBack(one, true)) found.push(`${planned.id} was taken back and is still in its room`);
        found.push(...wrongEdits(planned, event, events, deeds));
        const shown = events.findLast((other) => editOf(other)?.target === event.event_id);
        const content = shown === undefined ? event.content : (editOf(shown)?.shown ?? {});
        const { msgtype } = planned.files.length === 0 ? TEXT : FILE;
        if (content["msgtype"] !== msgtype && content["msgtype"] !== "m.notice")
            found.push(`${planned.id} is shown as ${String(content["msgtype"])}`);
        found.push(...wrongFiles(recorder, one, content, bytesOf).map((wrong) => `${planned.id}: ${wrong}`));
    }
    return found;
}

/** The messages, and the edits that were told at once, stand in the order of the calls. */
function wrongOrder(room: string, events: readonly RecordedEvent[], expected: readonly Expected[]): string[] {
    const atOnce = new Set(
        expected.flatMap(({ deeds = [] }) => deeds.flatMap(({ deed }) => (deed.when === "said" ? [deed.id] : []))),
    );
    const order = events.flatMap((event) => {
        const edit = editOf(event);
        const id = edit === undefined ? messageIdIn(event.content["body"]) : editIdIn(edit.shown["body"]);
        // What the component says of a file later repeats the newest edit's text.
        const isFirst = edit === undefined || (id !== undefined && atOnce.has(id) && atOnce.delete(id));
        return id !== undefined && isFirst ? [id] : [];
    });
    const number = (id: string | undefined): number => Number(id?.slice(1) ?? 0);
    return order.flatMap((id, index) => {
        const before = order[index - 1];
        return number(id) < number(before) ? [`${room}: ${id} stands behind ${before}`] : [];
    });
}

function isTakenBack({ deeds = [] }: Partial<Expected> = {}, forCertain = false): boolean {
    return deeds.some(({ deed, isCertain }) => deed.does === "redact" && (isCertain || !forCertain));
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

/** What is wrong with an edit: it has to be of the same sender and the same message. */
function wrongEdit(event: RecordedEvent, own: readonly RecordedEvent[]): string[] {
    const edit = editOf(event);
    if (edit === undefined) return [];
    const { target, shown } = edit;
    const original = own.find(({ event_id }) => event_id === target);
    if (original === undefined) return [`${event.event_id} edits ${target}, which is no message`];
    const isSame = messageIdIn(shown["body"]) === messageIdIn(original.content["body"]);
    return [
        ...(event.sender === original.sender ? [] : [`${event.event_id} edits another sender's ${target}`]),
        ...(isSame ? [] : [`${event.event_id} makes another message of ${target}`]),
    ];
}

function wrongFiles(
    { media, network }: Recorded,
    { planned: { files, room }, deeds = [] }: Expected,
    shown: Content,
    bytesOf: (file: PlannedFile) => Buffer,
): string[] {
    const [main] = files;
    if (main === undefined) return [];
    const fate = (file: PlannedFile): Fate => fateOf(file, deeds, network.hasRefused(file.name));
    const isNotice = shown["msgtype"] === "m.notice";
    if (fate(main) === "gone") return isNotice ? [] : ["its file cannot be had, and the room is not told"];
    if (isNotice) return fate(main) === "open" ? [] : ["its file can be had, and the room is told that it cannot"];
    const isEncrypted = isEncryptedRoom(room);
    if (isEncrypted && /"(?:thumbnail_)?url":"mxc/.test(JSON.stringify(withoutFiles(shown))))
        return ["a file of an encrypted room stands there as a plain one"];
    return files.flatMap((file) => {
        const place = file.at.join(".");
        const { uri, secret } = addressAt(shown, file.at, isEncrypted);
        if (fate(file) === "gone")
            return uri === undefined ? [] : [`${place} cannot be had, and the room still points to it`];
        if (uri === undefined) return fate(file) === "open" && file !== main ? [] : [`${place} is not in the room`];
        const content = media.find(uri)?.content;
        if (content === undefined) return [`${place}, ${uri}, has no content`];
        const bytes = secret === undefined ? content : decrypted(content, secret);
        return bytes?.equals(bytesOf(file)) === true ? [] : [`${place}, ${uri}, has other bytes`];
    });
}

/** Whether a file has to be there in the end; *open* where nobody knows which of what was done to it has taken effect. */
type Fate = "there" | "gone" | "open";

/** @param wasRefused Whether it was asked for too early. */
function fateOf({ kind, at }: PlannedFile, deeds: readonly ExpectedDeed[], wasRefused: boolean): Fate {
    const own = deeds.filter(({ deed }) => "at" in deed && String(deed.at) === String(at));
    const cancels = own.filter(({ deed }) => deed.does === "cancel");
    // Nobody heard the end of one that was found in a journal.
    const isCancelled = cancels.some(({ end, isCertain }) => (end === undefined ? isCertain : end === "cancelled"));
    if (kind === "missing" || isCancelled) return "gone";
    const isRetried = own.some(({ deed, isCertain }) => deed.does === "retry" && isCertain);
    if (kind === "late" && wasRefused && !isRetried) return "open";
    return cancels.some(({ end }) => end === undefined) ? "open" : "there";
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
