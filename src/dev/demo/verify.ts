import { createHash } from "node:crypto";
import { sha256Of } from "../network/remote-file.ts";
import type { Attachment } from "../network/remote-message.ts";
import type { Delivery } from "./deliver.ts";
import type { Home } from "./home.ts";
import { MatrixApi } from "./matrix-api.ts";
import { checkOrder } from "./order.ts";
import { attachedFiles } from "./outgoing.ts";
import type { BridgedRoom } from "./rooms.ts";
import { at, Timeline } from "./timeline.ts";

/** What reading everything back from the homeserver found. */
export interface Findings {
    readonly outOfOrder: number;
    readonly missing: number;
    /** Files that differ from the remote's, or cannot be downloaded. */
    readonly mismatched: number;
    /** Files whose transfer failed; their message says so. */
    readonly failed: number;
    /** Files whose bytes were compared, and how many bytes that were. */
    readonly compared: number;
    readonly bytes: number;
}

/** Compares the room, read anew from its beginning, with what was sent. `delivered` is in the order of the calls. */
export async function verifyRoom(room: BridgedRoom, delivered: readonly Delivery[], home: Home): Promise<Findings> {
    const api = new MatrixApi(home.url, home.reader.accessToken);
    const timeline = new Timeline(api, room.roomId);
    await timeline.catchUp();
    const order = checkOrder(
        delivered.map(({ message }) => message.id),
        timeline.entries.map(({ remoteId }) => remoteId),
    );
    const entries = new Map(timeline.entries.map((entry) => [entry.remoteId, entry]));
    const sums = { mismatched: 0, failed: 0, compared: 0, bytes: 0 };
    for (const { message, uploads } of delivered) {
        const entry = entries.get(message.id);
        if (entry === undefined) continue;
        for (const [index, { path, file }] of attachedFiles(message).entries()) {
            if ((await uploads[index]) !== undefined) {
                sums.failed++;
                continue;
            }
            sums.compared++;
            sums.bytes += file.original.size;
            // The notice in place of a message whose file failed has no thumbnail; the event itself still has.
            const uri = at(entry.content, path) ?? at(entry.original, path);
            if (!(await isSame(api, uri, file))) sums.mismatched++;
        }
    }
    return { ...order, ...sums };
}

async function isSame(api: MatrixApi, uri: unknown, { original }: Attachment): Promise<boolean> {
    const [, server, mediaId] = /^mxc:\/\/([^/]+)\/([^/]+)$/.exec(String(uri)) ?? [];
    if (server === undefined || mediaId === undefined) return false;
    const response = await api.open("GET", `/_matrix/client/v1/media/download/${server}/${mediaId}`);
    if (!response.ok) {
        await response.body?.cancel();
        return false;
    }
    const hash = createHash("sha256");
    try {
        for await (const chunk of response.body ?? []) hash.update(chunk);
        return hash.digest("hex") === (await sha256Of(original));
    } catch {
        // Cut off on the way, or no longer readable at its origin.
        return false;
    }
}

export function sum(findings: readonly Findings[]): Findings {
    const total = (pick: (one: Findings) => number): number => findings.reduce((sum, one) => sum + pick(one), 0);
    return {
        outOfOrder: total((one) => one.outOfOrder),
        missing: total((one) => one.missing),
        mismatched: total((one) => one.mismatched),
        failed: total((one) => one.failed),
        compared: total((one) => one.compared),
        bytes: total((one) => one.bytes),
    };
}
