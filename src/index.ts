/** What a bridge developer imports. */
export { BridgeMedia } from "./bridge/bridge-media.ts";
export type { FailureInfo, OnFailure } from "./bridge/failure-questions.ts";
export type { FailureTextKey, FailureTexts } from "./bridge/failure-texts.ts";
export type { DescribedMedia, Describe, KnownOfFile } from "./bridge/finding.ts";
export type {
    CancelOptions,
    HandedOver,
    JobInfo,
    MediaItem,
    MediaSource,
    MessageEdit,
    PendingUpload,
    RemoteMessage,
    SentEdit,
    SentMessage,
    UploadHandle,
} from "./bridge/message.ts";
export type { AvatarOptions, UploadOptions } from "./bridge/message-check.ts";
export type { BridgeMetricsLike, RegistryLike } from "./bridge/metrics.ts";
export type { BridgeMediaOptions } from "./bridge/options.ts";
export { ERRORS, type ErrorCode, MediaError } from "./errors.ts";
export type { Logger } from "./logger.ts";
export type { BridgeLike, ClientLike, CryptoLike, IntentLike } from "./matrix/client.ts";
export type { Store } from "./store/store.ts";
export type { JobState, StoredError } from "./uploads/job.ts";
export type { StepLimits, TimeLimits } from "./uploads/limits.ts";
export type { SourceLimit, SourceLimits } from "./uploads/source-gate.ts";
export type { ByteStream, Connector, ConnectorFile, OpenedSource } from "./uploads/sources/source.ts";
