import { decrypted, readable } from "../crypto.ts";
import { download, edits, messages } from "../download.ts";
import { sha256 } from "../remote.ts";
import type { World } from "../world.ts";
import { fileOf } from "./files.ts";
import { fileNameOf, type Said, type Tenant } from "./tenant.ts";

/** What a room's members find, held against what was said. */
export interface Verdict {
    /** What must never be, whatever was damaged. */
    readonly wrong: readonly string[];
    /** What damage may take: messages that are not there, files that do not come, files told as failed. */
    readonly lost: readonly string[];
}

interface Shown {
    readonly label: string;
    readonly content: Record<string, unknown>;
}

export async function judge(tenant: Tenant, world: World): Promise<Verdict> {
    const wrong: string[] = [];
    const lost: string[] = [];
    for (const roomId of [...tenant.plainRooms, tenant.encryptedRoom]) {
        const said = tenant.said.filter((one) => one.roomId === roomId);
        const shown = roomId === tenant.encryptedRoom ? inTheEncrypted(world, roomId) : inThePlain(world, roomId);
        if (roomId === tenant.encryptedRoom && messages(world.homeserver, roomId).length > 0)
            wrong.push("in the clear");
        const labels = shown.map(({ label }) => label);
        for (const [index, label] of labels.entries()) {
            if (labels.indexOf(label) !== index) wrong.push(`${label} twice`);
            const before = labels[index - 1];
            if (before !== undefined && before > label) wrong.push(`${label} after ${before}`);
        }
        for (const one of said) {
            const event = shown.find(({ label }) => label === one.label);
            if (event === undefined) lost.push(`${one.label} (${one.kind})`);
            else await judgeEvent(one, event, world, wrong, lost);
        }
    }
    return { wrong, lost };
}

async function judgeEvent(
    { label, kind, encrypted }: Said,
    { content }: Shown,
    world: World,
    wrong: string[],
    lost: string[],
): Promise<void> {
    const body = String(content["body"]);
    if (kind === "text") return void (body !== label && wrong.push(`${label} says ${body}`));
    if (content["msgtype"] === "m.notice") {
        if (kind !== "missing") lost.push(`${label} is told as failed`);
        return;
    }
    if (kind === "missing") lost.push(`${label} is not told as failed`);
    if (body !== label) wrong.push(`${label} says ${body}`);
    const file = content["file"] as { url: string } | undefined;
    const url = encrypted ? file?.url : content["url"];
    if (typeof url !== "string") return void wrong.push(`${label} shows nothing`);
    const { status, body: bytes } = await download(world.homeserver, url, 0);
    if (status !== 200) return void lost.push(`${label}'s file`);
    try {
        const clear = encrypted ? await decrypted(bytes, file) : bytes;
        if (sha256(clear) !== sha256(fileOf(fileNameOf(label, kind)))) wrong.push(`${label} has other bytes`);
    } catch (error) {
        wrong.push(`${label} cannot be decrypted: ${String(error)}`);
    }
}

function inThePlain({ homeserver }: World, roomId: string): Shown[] {
    const newest = edits(homeserver, roomId);
    return messages(homeserver, roomId)
        .filter(({ content }) => !("m.new_content" in content))
        .map(({ event_id, content }) => ({ label: labelOf(content), content: newest.get(event_id) ?? content }));
}

function inTheEncrypted({ homeserver }: World, roomId: string): Shown[] {
    return readable(homeserver, roomId).map(({ content }) => ({ label: labelOf(content), content }));
}

/** The label stands before everything else, in a notice too. */
function labelOf(content: Record<string, unknown>): string {
    return String(content["body"]).slice(0, 5);
}
