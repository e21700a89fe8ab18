import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { ByteRange } from "./byte-range.ts";
import { generatedBytes } from "./generated-bytes.ts";
import { mimetypeOf } from "./mimetypes.ts";

/** A file on the remote network. */
export interface RemoteFile {
    readonly size: number;
    readonly mimetype: string;
    /** Changes when the bytes do. */
    readonly etag: string;
    /** Wanted as `Authorization: Bearer …`; undefined where anybody may download. */
    readonly token?: string | undefined;
    /** How fast it is handed out; undefined is as fast as the reader takes it. */
    readonly bytesPerSecond?: number | undefined;
    read(range: ByteRange): Iterable<Buffer> | AsyncIterable<Buffer>;
}

export interface HandedOut {
    readonly token?: string | undefined;
    readonly bytesPerSecond?: number | undefined;
}

/** A file on this machine's disk. */
export async function diskFile(path: string, handedOut: HandedOut = {}): Promise<RemoteFile> {
    const { size, mtimeMs } = await stat(path);
    return {
        ...handedOut,
        size,
        mimetype: mimetypeOf(path),
        etag: `"${size.toString(36)}-${Math.round(mtimeMs).toString(36)}"`,
        read: ({ start, end }) => (start < end ? createReadStream(path, { start, end: end - 1 }) : []),
    };
}

/** A file of any size that is made while it is read. Its name is the seed. */
export function generatedFile(name: string, size: number, handedOut: HandedOut = {}): RemoteFile {
    return {
        ...handedOut,
        size,
        mimetype: mimetypeOf(name),
        etag: `"${createHash("sha256").update(name).digest("hex").slice(0, 16)}-${size.toString(36)}"`,
        read: (range) => generatedBytes(name, range),
    };
}

/** SHA-256 of the file as it is at its origin, in hex; read in pieces. */
export async function sha256Of(file: Pick<RemoteFile, "read" | "size">): Promise<string> {
    const hash = createHash("sha256");
    for await (const chunk of file.read({ start: 0, end: file.size })) hash.update(chunk);
    return hash.digest("hex");
}
