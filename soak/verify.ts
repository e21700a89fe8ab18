import { createHash } from "node:crypto";
import { Attachment, EncryptedAttachment, initAsync } from "@matrix-org/matrix-sdk-crypto-wasm";
import type { Parties } from "./parties.ts";
import { bytesOf, type Planned, plannedMessage } from "./plan.ts";

/** What the homeserver must have in the end: asked of it alone, over HTTP and from its rooms. */
export interface Verdict {
    readonly events: number;
    readonly files: number;
    /** Files that never came, although they were there: the room was told. */
    readonly notices: number;
    readonly faults: readonly string[];
}

type Content = Readonly<Record<string, unknown>>;

interface Shown {
    /** Of the message. */
    readonly number: string;
    content: Content;
}

/** Files that were out of tries before the faults were over, as a part of those that came. */
const MAX_NOTICES = 0.05;
/** At most so many faults are named. */
const MAX_FAULTS = 20;
const AT_ONCE = 8;

export async function verify(parties: Parties): Promise<Verdict> {
    await initAsync();
    const { setting, said } = parties;
    const expected = Array.from({ length: said }, (_, index) => plannedMessage(setting, index));
    const faults: string[] = [];
    let files = 0;
    let notices = 0;
    for (const roomId of setting.rooms) {
        const own = expected.filter((planned) => planned.roomId === roomId);
        const shown = shownIn(await parties.homeserver.call("events", roomId));
        const found = shown.map(({ number }) => number);
        const wrong = own.findIndex(({ index }, place) => found[place] !== String(index));
        if (wrong !== -1 || found.length !== own.length)
            faults.push(
                `${roomId}: ${found.length} events for ${own.length} messages, the first difference at ${wrong}`,
            );
        const byNumber = new Map(shown.map(({ number, content }) => [number, content]));
        const queue = own.filter(({ kind }) => kind !== "text").values();
        const check = async (): Promise<void> => {
            for (const planned of queue) {
                const outcome = await fileOutcome(parties, planned, byNumber.get(String(planned.index)) ?? {});
                if (outcome === "notice") notices++;
                else if (outcome !== "right") faults.push(`message ${planned.index} (${planned.kind}): ${outcome}`);
                if (outcome === "right") files++;
            }
        };
        await Promise.all(Array.from({ length: AT_ONCE }, check));
    }
    if (notices > files * MAX_NOTICES) faults.push(`${notices} files did not come, beside ${files} that did`);
    const spooled = await parties.spooled();
    if (spooled.length > 0) faults.push(`${spooled.length} files are left in the spool`);
    return { events: said, files, notices, faults: faults.slice(0, MAX_FAULTS) };
}

/** The room as a member reads it: edits in place of what they edit. */
function shownIn(events: readonly { event_id: string; type: string; content: Content }[]): Shown[] {
    const shown = new Map<string, Shown>();
    for (const event of events) {
        const content = event.type === "m.room.encrypted" ? decoded(event.content) : event.content;
        const relation = content["m.relates_to"] as { rel_type?: string; event_id?: string } | undefined;
        const edited = relation?.rel_type === "m.replace" ? shown.get(relation.event_id ?? "") : undefined;
        if (edited === undefined) shown.set(event.event_id, { number: numberOf(content), content });
        else edited.content = content["m.new_content"] as Content;
    }
    return [...shown.values()];
}

/** A notice in an encrypted room stands in place of its message, and begins with the file's name: the number again. */
function numberOf({ body }: Content): string {
    return /^\d+/.exec(String(body))?.[0] ?? String(body);
}

function decoded({ ciphertext, ...outside }: Content): Content {
    const clear = JSON.parse(Buffer.from(String(ciphertext), "base64").toString()) as { content: Content };
    return { ...clear.content, ...("m.relates_to" in outside && { "m.relates_to": outside["m.relates_to"] }) };
}

async function fileOutcome(parties: Parties, { kind, file }: Planned, content: Content): Promise<string> {
    const isNotice = content["msgtype"] === "m.notice";
    if (kind === "gone") return isNotice ? "right" : "its file is gone and the room was not told";
    if (isNotice) return "notice";
    const encrypted = content["file"] as { url?: unknown } | undefined;
    const mxc = String(encrypted?.url ?? content["url"]);
    const { homeserverUrl, accessToken } = parties.setting;
    const path = mxc.replace("mxc://", "/_matrix/client/v1/media/download/");
    const answer = await fetch(`${homeserverUrl}${path}?timeout_ms=0`, {
        headers: { authorization: `Bearer ${accessToken}` },
    });
    const body = Buffer.from(await answer.arrayBuffer());
    if (!answer.ok) return `HTTP ${answer.status} for ${mxc}`;
    const bytes =
        encrypted === undefined ? body : Attachment.decrypt(new EncryptedAttachment(body, JSON.stringify(encrypted)));
    return sha256(bytes) === sha256(bytesOf(file)) ? "right" : "other bytes than were sent";
}

function sha256(bytes: Uint8Array): string {
    return createHash("sha256").update(bytes).digest("hex");
}
