import { MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { ActingUsers } from "../matrix/client.ts";
import type { Unrepeated } from "../matrix/unrepeated.ts";
import type { Prepared } from "./encryption/job-encryption.ts";
import { prepare } from "./encryption/preparation.ts";
import { unlessThere } from "./encryption/unless-there.ts";
import { runsOut } from "./expiry.ts";
import type { Job } from "./job.ts";
import type { RightOfWay } from "../right-of-way.ts";
import type { StepLimits } from "./limits.ts";
import { isLargeForCertain } from "./places.ts";
import { addressPolicy } from "./sources/address-guard.ts";
import { ConnectorSource } from "./sources/connector.ts";
import { FileSource } from "./sources/file.ts";
import { HttpSource } from "./sources/http.ts";
import { OpenedAhead } from "./sources/opened-ahead.ts";
import { OpenedSources } from "./sources/opened.ts";
import type { Connector, OpenedSource, SourceDescription } from "./sources/source.ts";
import type { Spool } from "./sources/spool.ts";
import { Completion } from "./targets/complete.ts";
import { HomeserverTarget } from "./targets/homeserver.ts";
import { StorageBreaker } from "./targets/storage-breaker.ts";
import { TransferThread } from "./thread/transfer-thread.ts";
import { withStorage } from "./targets/storage-choice.ts";
import { type Attempt, openSource, transfer, type TransferWatch, type Transferred } from "./transfer.ts";
import { UploadLimits } from "./upload-limits.ts";

export interface EngineParts {
    readonly users: ActingUsers;
    readonly spool: Spool;
    readonly logger: Logger;
    readonly connectors: Readonly<Record<string, Connector>>;
    readonly allowPrivateAddresses: boolean | readonly string[];
    /** Bytes; undefined where only the homeserver's own limit counts. */
    readonly maxFileBytes: number | undefined;
    readonly timeLimits: StepLimits;
    /** Whether large files go through a thread of their own. */
    readonly transferThread: boolean;
    /** Streams that may be open ahead of their transfer. */
    readonly maxOpened: number;
    readonly way: RightOfWay;
    /** MXC URIs that the homeserver gave of late, whoever asked for them. */
    readonly uris: Unrepeated;
}

const KEEP_OPENED_MS = 30_000;

export interface Engine {
    /** The job's transfer will come: what takes long to start is started. */
    expect(job: Job): void;
    transfer(job: Job, signal: AbortSignal, watch: TransferWatch): Promise<Transferred>;
    /** After a transfer that ended with `isStored`: tells the homeserver, and returns the MXC URI. */
    complete(job: Job, signal: AbortSignal): Promise<string>;
    open(source: SourceDescription, signal: AbortSignal): Promise<OpenedSource>;
    /** Its transfer is about to begin, and will find its source open where that takes a while. Returns what lets go of it. */
    openAhead(job: Job): () => void;
    /** Streams that were opened ahead of their transfer. */
    readonly opened: OpenedSources;
    /** Encrypts a file of an encrypted room before its event is sent. */
    prepare(job: Job, signal: AbortSignal, watch: TransferWatch): Promise<Prepared>;
    /** Ends idle connections to sources, and the thread. To be called when nothing is under way. */
    close(): Promise<void>;
}

/** Every source and the target, put together. */
export function createEngine(parts: EngineParts): Engine {
    const { users, spool, logger, timeLimits: limits } = parts;
    const http = new HttpSource(addressPolicy(parts.allowPrivateAddresses), limits);
    const sources = { http, file: new FileSource(), connector: new ConnectorSource(parts.connectors, limits), spool };
    const target = new HomeserverTarget(users, limits, parts.uris);
    const completion = new Completion(users);
    // A connection that waits counts as silent, so it may wait no longer than a silent one.
    const keepMs = Math.min(KEEP_OPENED_MS, limits.idleMs / 2);
    const opened = new OpenedSources(parts.maxOpened, keepMs);
    const ahead = new OpenedAhead(keepMs);
    const uploadLimits = new UploadLimits(users, parts.maxFileBytes ?? Number.MAX_SAFE_INTEGER, logger);
    const storages = new StorageBreaker();
    const openedBefore = {
        take: (jobId: string, signal: AbortSignal) => opened.take(jobId, signal) ?? ahead.take(jobId, signal),
    };
    const transferParts = { sources, opened: openedBefore, target, spool, limits, logger, way: parts.way };
    const attempted = async <T>(
        job: Job,
        signal: AbortSignal,
        watch: TransferWatch,
        attempt: (attempt: Attempt) => Promise<T>,
    ): Promise<T> => {
        const maxBytes = await uploadLimits.of(job.uploader, signal);
        try {
            return await attempt({ job, maxBytes, signal, watch });
        } catch (error) {
            // By the homeserver's word: its limit is another one by now.
            if (error instanceof MediaError && error.code === "FILE_TOO_LARGE" && error.status !== undefined)
                uploadLimits.forget(job.uploader);
            throw error;
        }
    };
    const here = (attempt: Attempt) => transfer(attempt, transferParts);
    const thread = new TransferThread({
        settings: { spool: spool.share, allowPrivateAddresses: parts.allowPrivateAddresses, timeLimits: limits },
        logger,
        here,
        clearSpool: (names) => spool.clearOther(names),
    });
    /** A small file is through before a thread has heard of it; a connector is a function of the bridge's. */
    const isForThread = (job: Job): boolean =>
        parts.transferThread && isLargeForCertain(job) && job.source.kind !== "connector" && !opened.has(job.id);
    return {
        expect: (job) => {
            if (isForThread(job)) thread.expect();
        },
        transfer: (job, signal, watch) =>
            attempted(job, signal, watch, (attempt) =>
                withStorage(job, { storages, logger }, (job) =>
                    isForThread(job)
                        ? thread.transfer({ ...attempt, job }, () => users.get(job.uploader).access())
                        : here({ ...attempt, job }),
                ),
            ).catch((error: unknown) => unlessThere(job, error, users, signal)),
        prepare: (job, signal, watch) => attempted(job, signal, watch, (attempt) => prepare(attempt, transferParts)),
        complete: (job, signal) => completion.complete(job, signal),
        open: (source, signal) => openSource(source, sources, signal),
        openAhead: (job) => {
            // Connectors are somebody else's code: they are not called for what may not begin after all.
            const mayOpen = job.source.kind === "http" && !isForThread(job) && !opened.has(job.id);
            // Its address is replaced first: another job has the file then.
            if (!mayOpen || runsOut(job, Date.now())) return () => {};
            return ahead.begin(job.id, (signal) => openSource(job.source, sources, signal));
        },
        opened,
        close: async () => {
            opened.close();
            http.close();
            await thread.close();
        },
    };
}
