import type { Describe } from "./finding.ts";
import type { Logger } from "../logger.ts";
import type { OnFailure } from "./failure-questions.ts";
import type { FailureTexts } from "./failure-texts.ts";
import type { Store } from "../store/store.ts";
import type { TimeLimits } from "../uploads/limits.ts";
import type { SourceLimits } from "../uploads/source-gate.ts";
import type { Connector } from "../uploads/sources/source.ts";

/** What can be set. Everything that YAML can express is in `config.schema.yaml` too. */
export interface BridgeMediaOptions {
    /** Folder for the journal and the spool; created with mode 0700. One process at a time. */
    readonly dataDir: string;
    /** Transfers at once. @default 4 */
    readonly concurrency?: number;
    /** Beside them, transfers of files of at most 1 MiB, by their message's word; 0 to 256. @default 4 */
    readonly smallFileConcurrency?: number;
    /** Messages and upload jobs that may be pending together; beyond it `send()` rejects with BACKLOG_FULL. @default 200000 */
    readonly maxPendingJobs?: number;
    /** Largest file in bytes; a larger one ends as FILE_TOO_LARGE. @default what the homeserver allows the uploading user */
    readonly maxFileBytes?: number;
    /** Bytes on disk for spooled files; beyond it uploads wait and `send()` of a buffer rejects with SPOOL_FULL. @default 10 GiB */
    readonly maxSpoolBytes?: number;
    /**
     * Whether files over 1 MiB, by their message's word, go through a thread of their own, so that messages do not wait for
     * their bytes. Files of connectors never do. @default true
     */
    readonly transferThread?: boolean;
    /** Tries of an upload that fails by the file's own fault. @default 10 */
    readonly maxAttempts?: number;
    /** Whether sources may lead into private networks: `true` for all, or a list such as `["10.1.0.0/16"]`. @default false */
    readonly allowPrivateAddresses?: boolean | readonly string[];
    /** How the networks' own ways of fetching are found, by name. @default {} */
    readonly connectors?: Readonly<Record<string, Connector>>;
    /**
     * Limits for single sources, by a connector's name or an origin (`https://files.example.org`); `default` stands for
     * each source that is not named. @default {}: `concurrency` alone
     */
    readonly sourceLimits?: SourceLimits;
    /** Says how a file looks, from its first bytes, when `probeHeaders` is set: w, h, duration, blurhash. @default none */
    readonly describe?: Describe;
    /** Whose quota and upload limit count. @default "sender" */
    readonly uploadAs?: "sender" | "bot";
    /** How files of encrypted rooms are encrypted: their ciphertext kept on disk, or the source read twice. @default "spool" */
    readonly encryption?: "spool" | "two-pass";
    /**
     * What becomes of an event whose file cannot come: an edit that says why, a redaction, nothing, or an edit to the
     * content that a function returns (within 10 s; undefined leaves the event as it is). A file that failed before its
     * event (in an encrypted room, without `/create`) is told in any case. @default "notice"
     */
    readonly onFailure?: "notice" | "redact" | "keep" | OnFailure;
    /**
     * The notice's sentence, by code, as `default` for all others, and `unnamed` for a file without a name. Placeholders:
     * `{name} {size} {limit} {reason} {link}`; what stands in `[…]` is left out where something in it is not known. What
     * `{reason}` says stands in `reasons`, by code.
     * @default in English: `{name}[ ({size})] could not be bridged: {reason}[. Original: {link}]`
     */
    readonly failureTexts?: FailureTexts;
    /** Reservations kept ahead for each user that sends media; 0 to 5. @default 2 */
    readonly reserveAhead?: number;
    /** How long results of finished messages are remembered, in milliseconds. @default 604800000 (7 days) */
    readonly keepResultsMs?: number;
    /** After how long a file that messages share is asked for once before it is used again, in milliseconds. @default 86400000 (a day) */
    readonly dedupeCheckMs?: number;
    /** How long a shared file is remembered without use, in milliseconds; 100,000 at most. @default 2592000000 (30 days) */
    readonly dedupeKeepMs?: number;
    /** Time limits of a transfer's steps, in milliseconds. @default connect 10000, headers 30000, idle 60000, total 21600000, probe 5000 */
    readonly timeLimits?: Partial<TimeLimits>;
    /**
     * Makes the store that keeps the journal in this folder, which its `open()` makes where it is missing. `storeContract`
     * and `certify` in `matrix-bridge-media/testing` prove one. @default LevelDB
     */
    readonly store?: (directory: string) => Store;
    /** @default silent */
    readonly logger?: Logger;
}
