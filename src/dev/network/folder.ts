import { createHash } from "node:crypto";
import { opendir, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import { diskFile } from "./remote-file.ts";
import { mimetypeOf } from "./mimetypes.ts";
import type { AttachmentKind, Conversation, RemoteMessage } from "./remote-message.ts";

/** A folder with more files is cut off here: the demo is no backup program. */
export const MAX_FILES = 1000;

const SENDER = "curator";

/**
 * A folder of one's own files as a conversation: the name of each folder as a text, and behind it its files. Links
 * are not followed. A file that changed since is a new message, because its id is made of path, size and time.
 */
export async function folderConversation(folder: string): Promise<Conversation> {
    const root = resolve(folder);
    const paths = await filesBelow(root);
    const messages: RemoteMessage[] = [];
    let last: string | undefined;
    for (const path of paths) {
        const parent = dirname(path);
        if (parent !== last) messages.push(heading(root, parent));
        last = parent;
        messages.push(await fileMessage(path));
    }
    messages.push(text(root, closing(paths.length)));
    return { id: `folder${root}`, title: basename(root), messages, pauseMs: undefined };
}

function closing(files: number): string {
    if (files === 0) return "There is no file in this folder.";
    return files < MAX_FILES ? "That is all of it." : `That was ${MAX_FILES} files; the demo takes no more.`;
}

async function filesBelow(root: string): Promise<string[]> {
    const paths: string[] = [];
    for await (const entry of await opendir(root, { recursive: true })) {
        if (!entry.isFile()) continue;
        paths.push(join(entry.parentPath, entry.name));
        if (paths.length === MAX_FILES) break;
    }
    return paths.toSorted((a, b) => compare(dirname(a), dirname(b)) || compare(a, b));
}

function compare(a: string, b: string): number {
    return a < b ? -1 : Number(a > b);
}

function heading(root: string, parent: string): RemoteMessage {
    return text(root, `${join(basename(root), relative(root, parent))}/`);
}

function text(root: string, text: string): RemoteMessage {
    return { id: idOf(root, text), sender: SENDER, timestamp: Date.UTC(2025, 0, 1), text };
}

async function fileMessage(path: string): Promise<RemoteMessage> {
    const { size, mtimeMs } = await stat(path);
    return {
        id: idOf(path, String(size), String(mtimeMs)),
        sender: SENDER,
        timestamp: Math.max(0, Math.round(mtimeMs)),
        file: {
            kind: kindOf(mimetypeOf(path)),
            name: basename(path),
            location: { kind: "file", path },
            original: await diskFile(path),
        },
    };
}

function idOf(...parts: readonly string[]): string {
    return `folder/${createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, 32)}`;
}

function kindOf(mimetype: string): AttachmentKind {
    const [kind] = mimetype.split("/");
    return kind === "image" || kind === "video" || kind === "audio" ? kind : "document";
}
