import { MediaError } from "../errors.ts";
import { checkAnnouncedType } from "./content-check.ts";
import { counted, tooLarge } from "./counted.ts";
import type { Job } from "./job.ts";
import type { StepLimits } from "./limits.ts";
import { sourceError } from "./sources/http.ts";
import type { OpenedSource, Source, SourceDescription } from "./sources/source.ts";
import type { Spool } from "./sources/spool.ts";
import type { Target } from "./targets/target.ts";
import type { UploadLimits } from "./upload-limits.ts";

/**
 * One try of one transfer: open the source, learn its length, stream it to the target.
 *
 * The target needs the length before the first byte, so a source that does not say it is copied to the spool first.
 * Memory holds a few chunks, however large the file. Whatever happens, the source is closed and the copy removed.
 */
export interface TransferParts {
    readonly sources: {
        readonly [Kind in SourceDescription["kind"]]: Source<Extract<SourceDescription, { kind: Kind }>>;
    };
    readonly target: Target;
    readonly spool: Spool;
    readonly uploadLimits: UploadLimits;
    readonly limits: StepLimits;
}

export interface Transferred {
    readonly size: number;
    readonly contentUri: string;
}

/** The end of a spool file's name that marks a copy for one try. */
export const COPY_SUFFIX = ".copy";

/** Rejects with a MediaError. `onBytes` hears the bytes read from the source so far. */
export async function transfer(
    job: Job,
    parts: TransferParts,
    signal: AbortSignal,
    onBytes: (total: number) => void,
): Promise<Transferred> {
    const limit = AbortSignal.timeout(parts.limits.totalMs);
    const both = AbortSignal.any([signal, limit]);
    try {
        return await attempt(job, parts, both, onBytes);
    } catch (error) {
        if (limit.aborted && !signal.aborted) throw new MediaError("TRANSFER_TIMEOUT", { cause: error });
        throw sourceError(error, signal);
    }
}

async function attempt(job: Job, parts: TransferParts, signal: AbortSignal, onBytes: (total: number) => void) {
    const maxBytes = await parts.uploadLimits.of(job.uploader, signal);
    if (job.size !== undefined && job.size > maxBytes) throw tooLarge(maxBytes);
    const opened = await openSource(job.source, parts, signal);
    try {
        checkAnnouncedType(job.mimetype, opened.mimetype);
        if (opened.size !== undefined && opened.size > maxBytes) throw tooLarge(maxBytes);
        const body = counted(wrapped(opened, signal), { size: opened.size, maxBytes }, job.mimetype, onBytes);
        if (opened.size !== undefined) return await put(job, parts, { body, size: opened.size }, opened, signal);
        return await viaSpool(job, parts, body, opened, signal);
    } finally {
        opened.stream.destroy();
    }
}

async function viaSpool(
    job: Job,
    parts: TransferParts,
    body: AsyncIterable<Uint8Array>,
    opened: OpenedSource,
    signal: AbortSignal,
): Promise<Transferred> {
    const name = job.id + COPY_SUFFIX;
    const size = await parts.spool.write(name, body);
    try {
        const copy = await parts.spool.open({ kind: "spool", name }, signal);
        return await put(job, parts, { body: copy.stream, size }, opened, signal);
    } finally {
        await parts.spool.remove(name);
    }
}

async function put(
    job: Job,
    parts: TransferParts,
    { body, size }: { body: AsyncIterable<Uint8Array>; size: number },
    opened: OpenedSource,
    signal: AbortSignal,
): Promise<Transferred> {
    const { uploader, contentUri, filename } = job;
    const mimetype = job.mimetype ?? opened.mimetype ?? "application/octet-stream";
    return {
        size,
        contentUri: await parts.target.put({ uploader, contentUri, filename, size, mimetype, body }, signal),
    };
}

function openSource(source: SourceDescription, { sources }: TransferParts, signal: AbortSignal): Promise<OpenedSource> {
    switch (source.kind) {
        case "http":
            return sources.http.open(source, signal);
        case "file":
            return sources.file.open(source, signal);
        case "connector":
            return sources.connector.open(source, signal);
        case "spool":
            return sources.spool.open(source, signal);
    }
}

/** A stream's own errors in the table's terms, so that they can be told from the target's. */
async function* wrapped({ stream }: OpenedSource, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
        yield* stream as AsyncIterable<Uint8Array>;
    } catch (error) {
        throw sourceError(error, signal);
    }
}
