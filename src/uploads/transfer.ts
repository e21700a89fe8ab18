import { asMediaError, MediaError } from "../errors.ts";
import { LinkedAbort } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import { loggable } from "../redact.ts";
import type { RightOfWay } from "../right-of-way.ts";
import { checkAnnouncedType, promisedType } from "./content-check.ts";
import { counted, tooLarge } from "./counted.ts";
import { encryptedUpload } from "./encryption/encrypted-body.ts";
import { ENCRYPTED_TYPE } from "./encryption/job-encryption.ts";
import type { Job } from "./job.ts";
import type { StepLimits } from "./limits.ts";
import { RefreshedButFailed } from "./sources/connector.ts";
import { sourceError } from "./sources/http.ts";
import type { OpenedSource, Source, SourceDescription } from "./sources/source.ts";
import type { Spool } from "./sources/spool.ts";
import { MAX_PRESIGNED_BYTES, PresignedTarget } from "./targets/presigned.ts";
import type { Target } from "./targets/target.ts";

/**
 * One try of one transfer: open the source, learn its length, stream it to the target.
 *
 * The target needs the length before the first byte, so a source that does not say it is copied to the spool first.
 * Memory holds a few chunks, however large the file. Whatever happens, the source is closed and the copy removed.
 */
export type Sources = {
    readonly [Kind in SourceDescription["kind"]]: Source<Extract<SourceDescription, { kind: Kind }>>;
};

export interface TransferParts {
    readonly sources: Sources;
    /** What was opened before: the job's own source, or the opening of it. */
    readonly opened: {
        take(jobId: string, signal: AbortSignal): OpenedSource | Promise<OpenedSource> | undefined;
    };
    readonly target: Target;
    readonly spool: Spool;
    readonly limits: StepLimits;
    readonly logger: Logger;
    readonly way: RightOfWay;
}

export interface Transferred {
    readonly size: number;
    readonly contentUri: string;
    /** It lies in a storage, and the homeserver is still to be told. @default false */
    readonly isStored?: boolean;
}

/** The end of a spool file's name that marks a copy for one try. */
export const COPY_SUFFIX = ".copy";

/** What any header can carry. A remote message's or source's word for its type may be anything, and must not fail every try. */
const HEADER_TEXT = /^[\x20-\x7e]{1,256}$/;

export interface TransferWatch {
    /** Hears the bytes read from the source so far. */
    readonly onBytes: (total: number) => void;
    /** Journals where the file is found from now on; awaited, so that a crash does not forget it. */
    readonly onRefreshed: (source: SourceDescription) => Promise<void>;
}

/** One try of a job. */
export interface Attempt {
    readonly job: Job;
    /** Bytes that its uploader may upload. */
    readonly maxBytes: number;
    readonly signal: AbortSignal;
    readonly watch: TransferWatch;
}

/** Rejects with a MediaError. */
export async function transfer(attempt: Attempt, parts: TransferParts): Promise<Transferred> {
    const { job } = attempt;
    return reading(attempt, parts, (body, opened, within) => {
        if (job.encryption !== undefined) {
            const upload = encryptedUpload(job.encryption, body, opened);
            return put(job, parts, upload, opened, within);
        }
        if (opened.size !== undefined) return put(job, parts, { body, size: opened.size }, opened, within);
        return viaSpool(job, parts, body, opened, within);
    });
}

/**
 * Opens a job's source, lets `use` read it, counted, checked and within the limits of size and time, and closes it.
 * Rejects with a MediaError.
 */
export async function reading<T>(
    attempt: Attempt,
    parts: TransferParts,
    use: (body: AsyncIterable<Uint8Array>, opened: OpenedSource, signal: AbortSignal) => Promise<T>,
): Promise<T> {
    const abort = new LinkedAbort([attempt.signal], {
        ms: parts.limits.totalMs,
        reason: () => new MediaError("TRANSFER_TIMEOUT"),
    });
    try {
        return await opening({ ...attempt, signal: abort.signal }, parts, use);
    } catch (error) {
        throw sourceError(error, abort.signal);
    } finally {
        abort.release();
    }
}

async function opening<T>(
    { job, maxBytes, signal, watch }: Attempt,
    parts: TransferParts,
    use: (body: AsyncIterable<Uint8Array>, opened: OpenedSource, signal: AbortSignal) => Promise<T>,
): Promise<T> {
    if (job.size !== undefined && job.size > maxBytes) throw tooLarge(maxBytes);
    const openAnew = (): Promise<OpenedSource> =>
        openSource(job.source, parts.sources, signal).catch(async (error: unknown) => {
            if (error instanceof RefreshedButFailed) await watch.onRefreshed(error.refreshed);
            throw error;
        });
    const opened = await (parts.opened.take(job.id, signal) ?? openAnew());
    try {
        if (opened.refreshed !== undefined) await watch.onRefreshed(opened.refreshed);
        const mimetype = promisedType(job.mimetype, job.family);
        checkAnnouncedType(mimetype, opened.mimetype);
        if (opened.size !== undefined && opened.size > maxBytes) throw tooLarge(maxBytes);
        // What lies in the spool is on our own disk.
        const otherwise = job.source.kind === "spool" ? "SPOOL_FAILED" : undefined;
        const explain = (error: unknown) => sourceError(error, signal, otherwise);
        // Ciphertext looks like anything.
        const promised = job.encryption?.spooled === true ? {} : { mimetype, sha256: job.sha256 };
        const body = counted(opened.stream, { size: opened.size, maxBytes }, promised, {
            onBytes: watch.onBytes,
            way: parts.way,
            explain,
        });
        return await use(body, opened, signal);
    } finally {
        opened.stream.destroy();
    }
}

async function viaSpool(
    job: Job,
    parts: TransferParts,
    source: AsyncIterable<Uint8Array>,
    opened: OpenedSource,
    signal: AbortSignal,
): Promise<Transferred> {
    const name = job.id + COPY_SUFFIX;
    const size = await parts.spool.write(name, source).catch((error: unknown) => {
        // Room for it would never come.
        throw error instanceof MediaError && error.code === "SPOOL_FULL" && error.limit !== undefined
            ? tooLarge(error.limit)
            : error;
    });
    let copy: OpenedSource | undefined;
    try {
        copy = await parts.spool.open({ kind: "spool", name }, signal);
        const explain = (error: unknown) => asMediaError(error, "SPOOL_FAILED");
        const body = counted(copy.stream, { size, maxBytes: size }, {}, { way: parts.way, explain });
        return await put(job, parts, { body, size }, opened, signal);
    } finally {
        copy?.stream.destroy();
        // The try has come to its end: what stays is removed by the next one, or by the next start.
        await parts.spool.remove(name).catch((error: unknown) => {
            parts.logger.warn("A spooled file could not be removed", { jobId: job.id, error: loggable(error) });
        });
    }
}

async function put(
    job: Job,
    parts: TransferParts,
    { body, size }: { body: AsyncIterable<Uint8Array>; size: number },
    opened: OpenedSource,
    signal: AbortSignal,
): Promise<Transferred> {
    const { uploader, contentUri, encryption } = job;
    // What an encrypted file is, only its event says.
    const filename = encryption === undefined ? job.filename : undefined;
    const known = encryption === undefined ? (job.mimetype ?? opened.mimetype) : ENCRYPTED_TYPE;
    const mimetype = known !== undefined && HEADER_TEXT.test(known) ? known : "application/octet-stream";
    const presigned = presignedFor(job, size, parts);
    const target = presigned ?? parts.target;
    const upload = {
        uploader,
        contentUri,
        filename,
        size,
        mimetype,
        body,
        contentMayDiffer: encryption?.renewed === true,
    };
    const stored = await target.put(upload, signal);
    return { size, contentUri: stored, isStored: presigned !== undefined };
}

/** The storage that the homeserver wants the file to be put into; undefined where it takes the file itself. */
function presignedFor({ id, presigned }: Job, size: number, { limits, logger }: TransferParts): Target | undefined {
    if (presigned === undefined) return undefined;
    if (size <= MAX_PRESIGNED_BYTES) return new PresignedTarget(presigned, limits);
    const reason = `more than ${MAX_PRESIGNED_BYTES} bytes do not go into one presigned upload`;
    logger.info("The homeserver's own upload is used instead of the presigned one", { jobId: id, size, reason });
    return undefined;
}

/** Rejects with a MediaError. */
export function openSource(source: SourceDescription, sources: Sources, signal: AbortSignal): Promise<OpenedSource> {
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
