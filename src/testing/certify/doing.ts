import { setTimeout as sleep } from "node:timers/promises";
import type { BridgeMedia } from "../../bridge/bridge-media.ts";
import type { JobInfo } from "../../bridge/message.ts";
import type { Deed } from "./deeds.ts";
import { editedCaptionOf, FILE, type Network, sourceOf, TEXT } from "./messages.ts";

/** How the bridge that is killed does what is done to its messages, by the component's own calls. */

const FINAL: ReadonlySet<string> = new Set(["done", "failed", "cancelled", "replaced"]);
const LOOK_MS = 25;
/** Whom an edit mentions, so that it is told from what the component says of its own accord. */
export const READER = "@reader:certify.example";

/**
 * Resolves with what came of it, in a word. Rejects with the component's error.
 * @param hasSettled Whether the message's `send()` has come to its end, or is none of this process'.
 */
export async function perform(
    media: BridgeMedia,
    deed: Deed,
    network: Network,
    hasSettled: () => boolean,
): Promise<string> {
    switch (deed.does) {
        case "edit": {
            const { id, files } = deed.of;
            const body = editedCaptionOf(id, deed.id);
            const content = { ...(files.length === 0 ? TEXT : FILE), body, "m.mentions": { user_ids: [READER] } };
            await media.edit(id, { id: deed.id, content });
            return "edited";
        }
        case "redact":
            await media.cancelMessage(deed.of.id, { redact: true });
            return "redacted";
        case "picture":
            await media.avatar(deed.user, sourceOf(deed.file, network));
            return "set";
        case "cancel": {
            const job = await jobOf(media, deed, hasSettled, false);
            if (job === undefined) return "unknown";
            await media.cancel(job.id);
            return (await jobOf(media, deed, hasSettled, false))?.state ?? "unknown";
        }
        case "retry": {
            const job = await jobOf(media, deed, hasSettled, true);
            if (job === undefined) return "unknown";
            await media.retry(job.id);
            return "retried";
        }
    }
}

/** The job of the deed's file, once there is one, or none can come; and once it has ended, where that is asked for. */
async function jobOf(
    media: BridgeMedia,
    deed: Extract<Deed, { at: unknown }>,
    hasSettled: () => boolean,
    isEnded: boolean,
): Promise<JobInfo | undefined> {
    while (true) {
        // Before the look: what comes to be known while it is under way is asked for once more.
        const isLast = hasSettled();
        let found: JobInfo | undefined;
        for await (const job of media.jobs())
            if (job.messageId === deed.of.id && job.state !== "replaced" && String(job.at) === String(deed.at))
                found = job;
        if (found === undefined ? isLast : !isEnded || FINAL.has(found.state)) return found;
        await sleep(LOOK_MS);
    }
}
