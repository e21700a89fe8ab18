import { constants, createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { basename } from "node:path";
import { type ErrorCode, MediaError, systemCode } from "../../errors.ts";
import type { OpenedSource, Source, SourceDescription } from "./source.ts";

type FileDescription = Extract<SourceDescription, { kind: "file" }>;

const CODES: Readonly<Record<string, ErrorCode>> = {
    ENOENT: "SOURCE_NOT_FOUND",
    ENOTDIR: "SOURCE_NOT_FOUND",
    EACCES: "SOURCE_FORBIDDEN",
    EPERM: "SOURCE_FORBIDDEN",
};

/** A pipe without a writer is opened at once, to be refused: else it would keep a thread of libuv's for ever, and `close()` waiting. */
const READ_AT_ONCE = constants.O_RDONLY | constants.O_NONBLOCK;

/** Reads a file of this machine: as many bytes as it had when it was opened. */
export class FileSource implements Source<FileDescription> {
    async open({ path }: FileDescription, signal: AbortSignal): Promise<OpenedSource> {
        const handle = await open(path, READ_AT_ONCE).catch((cause: unknown) => {
            throw fileError(cause);
        });
        try {
            const stats = await handle.stat();
            if (!stats.isFile()) throw new MediaError("SOURCE_REFUSED", { detail: "not a regular file" });
            // `end` is inclusive, so an empty file cannot be said with it.
            const range = stats.size === 0 ? {} : { start: 0, end: stats.size - 1 };
            const stream = createReadStream(path, { fd: handle, ...range, signal, highWaterMark: 256 * 1024 });
            stream.on("error", () => {});
            return { stream, size: stats.size, filename: basename(path) };
        } catch (error) {
            await handle.close();
            throw error instanceof MediaError ? error : fileError(error);
        }
    }
}

function fileError(cause: unknown): MediaError {
    const detail = systemCode(cause) ?? "unknown";
    return new MediaError(CODES[detail] ?? "SOURCE_UNAVAILABLE", { cause, detail });
}
