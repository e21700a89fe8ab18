import type { Logger } from "../logger.ts";
import type { ActingUsers } from "../matrix/client.ts";
import type { Job } from "./job.ts";
import type { StepLimits } from "./limits.ts";
import { addressPolicy } from "./sources/address-guard.ts";
import { ConnectorSource } from "./sources/connector.ts";
import { FileSource } from "./sources/file.ts";
import { HttpSource } from "./sources/http.ts";
import type { Connector } from "./sources/source.ts";
import type { Spool } from "./sources/spool.ts";
import { Completion } from "./targets/complete.ts";
import { HomeserverTarget } from "./targets/homeserver.ts";
import { transfer, type TransferWatch, type Transferred } from "./transfer.ts";
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
}

export interface Engine {
    transfer(job: Job, signal: AbortSignal, watch: TransferWatch): Promise<Transferred>;
    /** After a transfer that ended with `isStored`: tells the homeserver, and returns the MXC URI. */
    complete(job: Job, signal: AbortSignal): Promise<string>;
    /** Ends idle connections to sources. */
    close(): void;
}

/** Every source and the target, put together. */
export function createEngine(parts: EngineParts): Engine {
    const { users, spool, logger, timeLimits: limits } = parts;
    const http = new HttpSource(addressPolicy(parts.allowPrivateAddresses), limits);
    const sources = { http, file: new FileSource(), connector: new ConnectorSource(parts.connectors, limits), spool };
    const target = new HomeserverTarget(users, limits);
    const completion = new Completion(users);
    const uploadLimits = new UploadLimits(users, parts.maxFileBytes ?? Number.MAX_SAFE_INTEGER, logger);
    return {
        transfer: (job, signal, watch) =>
            transfer(job, { sources, target, spool, uploadLimits, limits, logger }, signal, watch),
        complete: (job, signal) => completion.complete(job, signal),
        close: () => http.close(),
    };
}
