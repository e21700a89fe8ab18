import type { Logger } from "../../logger.ts";
import type { Access } from "../../matrix/client.ts";
import type { Job } from "../job.ts";
import type { StepLimits } from "../limits.ts";
import type { SpoolShare } from "../sources/spool.ts";
import type { Transferred } from "../transfer.ts";
import type { WireError } from "./wire-error.ts";

/** What the thread is started with. */
export interface ThreadSettings {
    readonly spool: SpoolShare;
    readonly allowPrivateAddresses: boolean | readonly string[];
    readonly timeLimits: StepLimits;
}

/** `id` is the attempt's: the same job may come again. */
export type ToThread =
    | { readonly type: "begin"; readonly id: number; readonly job: Job; readonly maxBytes: number }
    /** How to reach the homeserver as the job's uploader. */
    | { readonly type: "access"; readonly id: number; readonly access: Access }
    | { readonly type: "no-access"; readonly id: number; readonly error: WireError }
    | { readonly type: "abort"; readonly id: number; readonly reason: WireError };

export type FromThread =
    /** It listens. */
    | { readonly type: "ready" }
    /** Asks for the access just before its use: a token may have changed while a source was copied. */
    | { readonly type: "access"; readonly id: number }
    | { readonly type: "bytes"; readonly id: number; readonly total: number }
    | { readonly type: "log"; readonly level: keyof Logger; readonly message: string; readonly details: unknown[] }
    | { readonly type: "done"; readonly id: number; readonly transferred: Transferred }
    | { readonly type: "failed"; readonly id: number; readonly error: WireError };
