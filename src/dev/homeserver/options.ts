import type { FastifyBaseLogger } from "fastify";
import type { PresignedMedia } from "./presigned-media.ts";

/** What an appservice's registration file tells the homeserver. */
export interface AppserviceRegistration {
    readonly id: string;
    readonly asToken: string;
    /** Part of a registration, and of no use here: nothing is pushed to appservices. */
    readonly hsToken?: string;
    readonly senderLocalpart: string;
    /** Regular expressions over whole user IDs, anchored at their start as Synapse anchors them. */
    readonly userNamespaces: readonly string[];
    /** @default true */
    readonly rateLimited?: boolean;
}

export interface HomeserverOptions {
    /** Where state and media bytes are kept. @default a temporary folder, removed by close() */
    readonly dataDir?: string;
    /** @default "localhost" */
    readonly serverName?: string;
    /** Port on 127.0.0.1; 0 takes a free one. @default 0 */
    readonly port?: number;
    readonly appservices: readonly AppserviceRegistration[];
    /** `m.upload.size`, in bytes. @default 50 MiB */
    readonly maxUploadBytes?: number;
    /** Reserved media IDs without content that a user may hold. @default 5 */
    readonly maxPendingMedia?: number;
    /** How long a reserved media ID may stay without content. @default 24 hours */
    readonly unusedExpirationMs?: number;
    /** Rate of `/create` for each user. @default 10 a second, burst 50 */
    readonly createRateLimit?: { readonly perSecond: number; readonly burst: number };
    /** How long the answer to a transaction ID is remembered. @default 45 minutes */
    readonly txnMemoryMs?: number;
    readonly features?: {
        /** Asynchronous uploads; without them `/create` is an unknown endpoint. @default true */
        readonly create?: boolean;
        /** Whether the unauthenticated download endpoint serves content; Synapse's default is no. @default true */
        readonly legacyDownload?: boolean;
    };
    /** Has `/create` name a storage's address for each media ID. @default the server takes all files itself */
    readonly presigned?: PresignedMedia;
    /** Slows every upload down to this rate. @default no limit */
    readonly bandwidthBytesPerSecond?: number;
    /** The clock by which unused media IDs expire, in milliseconds since the epoch. @default this process's */
    readonly now?: () => number;
    /** Errors of the server itself go here. @default false */
    readonly logger?: false | FastifyBaseLogger;
}

/** The options with their defaults filled in. */
export interface Settings {
    readonly serverName: string;
    readonly maxUploadBytes: number;
    readonly maxPendingMedia: number;
    readonly unusedExpirationMs: number;
    readonly createRateLimit: { readonly perSecond: number; readonly burst: number };
    readonly txnMemoryMs: number;
    readonly create: boolean;
    readonly legacyDownload: boolean;
    readonly presigned: PresignedMedia | undefined;
    readonly bandwidthBytesPerSecond: number | undefined;
    readonly now: () => number;
}

/** Synapse's defaults, where Synapse has one (config/repository.py, config/ratelimiting.py). */
export function withDefaults(options: HomeserverOptions): Settings {
    return {
        serverName: options.serverName ?? "localhost",
        maxUploadBytes: options.maxUploadBytes ?? 50 * 1024 * 1024,
        maxPendingMedia: options.maxPendingMedia ?? 5,
        unusedExpirationMs: options.unusedExpirationMs ?? 24 * 60 * 60 * 1000,
        createRateLimit: options.createRateLimit ?? { perSecond: 10, burst: 50 },
        txnMemoryMs: options.txnMemoryMs ?? 45 * 60 * 1000,
        create: options.features?.create ?? true,
        legacyDownload: options.features?.legacyDownload ?? true,
        presigned: options.presigned,
        bandwidthBytesPerSecond: options.bandwidthBytesPerSecond,
        now: options.now ?? (() => Date.now()),
    };
}
