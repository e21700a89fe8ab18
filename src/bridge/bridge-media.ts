import { setMaxListeners } from "node:events";
import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { BridgeLike } from "../matrix/client.ts";
import type { JobState } from "../uploads/job.ts";
import { JOBS, jobFrom } from "../uploads/job-records.ts";
import { assemble, type Parts } from "./assembly.ts";
import { Avatars } from "./avatars.ts";
import { withShared } from "./dedupe/handles.ts";
import { foreignId } from "./edits.ts";
import { handleOf, jobInfo } from "./job-info.ts";
import { Life } from "./life.ts";
import type {
    CancelOptions,
    JobInfo,
    MediaSource,
    MessageEdit,
    PendingUpload,
    RemoteMessage,
    SentEdit,
    SentMessage,
    UploadHandle,
} from "./message.ts";
import {
    type AvatarOptions,
    checkAvatar,
    checkCancelOptions,
    checkEdit,
    checkJobFilter,
    checkListener,
    checkMessage,
    checkRoomAvatar,
    checkSource,
    checkUploadOptions,
    type UploadOptions,
} from "./message-check.ts";
import type { BridgeMetricsLike, RegistryLike } from "./metrics.ts";
import type { BridgeMediaOptions } from "./options.ts";
import { checkOptions } from "./options-check.ts";
import { PICTURE } from "./promised-family.ts";
import { loadJobs, type MessageRecord } from "./records.ts";
import { Reactions } from "./reactions.ts";
import { Sendings } from "./sendings.ts";
import { newestJob } from "./successor.ts";
import { Uploads } from "./uploads.ts";

/**
 * The component that a bridge embeds: it journals each remote message, sends its event at once and in order, and
 * streams its files behind it. This class only wires the parts together; the order is kept by `Admission` and
 * `Outbox`, the transfers by `UploadQueue`, and what survives a crash by the store.
 *
 * After a crash `start()` finds everything in the journal: lines of events go on where they stood, jobs that were
 * under way begin anew, marks for edits are worked off, and spooled files that nothing needs are removed.
 */
export class BridgeMedia {
    readonly #logger: Logger;
    readonly #parts: Parts;
    readonly #reactions: Reactions;
    readonly #sendings: Sendings;
    readonly #closing = new AbortController();
    readonly #uploads: Uploads;
    readonly #avatars: Avatars;
    readonly #life: Life;

    /**
     * @param bridge matrix-appservice-bridge's `Bridge`, matrix-bot-sdk's `Appservice`, or anything with
     *   `getIntent(userId)`.
     * @throws MediaError INVALID_OPTION or INVALID_ARGUMENT, naming the field. Nothing is opened yet.
     */
    constructor(bridge: BridgeLike, options: BridgeMediaOptions) {
        const checked = checkOptions(options);
        this.#logger = checked.logger;
        // Every call that waits listens.
        setMaxListeners(0, this.#closing.signal);
        this.#parts = assemble(bridge, checked, {
            closing: this.#closing.signal,
            nextSequence: () => this.#life.nextSequence(),
            onJob: (job, bytes) => this.#reactions.jobChanged(job, bytes),
            onReplaced: (old, successor) => this.#reactions.jobReplaced(old, successor),
            onOutcome: (message, error) => this.#reactions.messageEnded(message, error),
        });
        this.#reactions = new Reactions(this.#parts, this.#logger);
        this.#sendings = new Sendings({
            ...this.#parts,
            assertOpen: () => this.#life.assertStarted(),
            onJob: (job) => this.#reactions.tell(job, 0),
        });
        this.#uploads = new Uploads({
            ...this.#parts,
            closing: this.#closing.signal,
            onJob: (job) => this.#reactions.jobChanged(job, 0),
        });
        const { store, users, ends, answers, requests } = this.#parts;
        this.#avatars = new Avatars({
            store,
            users,
            logger: this.#logger,
            upload: (source, given, announce) => {
                this.#life.assertStarted();
                return this.#uploads.begin(source, checkUploadOptions(given), announce, PICTURE);
            },
            endOf: (jobId) => ends.of(jobId),
            answers,
            requests,
            closing: this.#closing.signal,
        });
        const [avatars, sendings, closing] = [this.#avatars, this.#sendings, this.#closing];
        this.#life = new Life({ ...this.#parts, avatars, sendings, closing });
    }

    /**
     * Opens the data directory and goes on with what an earlier run left. The homeserver need not be up.
     * Rejects with STORE_LOCKED, STORE_NEWER_SCHEMA, STORE_UNUSABLE or STORE_READ_FAILED, or with CLOSED when `close()` is called meanwhile.
     */
    async start(): Promise<void> {
        await this.#life.start();
    }

    /**
     * Journals a remote message, sends its event and returns when the homeserver has accepted it; the files follow.
     * Calls keep their order in a room also when they are not awaited. The same `id` again returns the first result.
     *
     * Rejects with a MediaError.
     * - Not journaled, correct it: NOT_STARTED, INVALID_ARGUMENT, INVALID_OPTION (`uploadAs: "bot"` without a bot), and of bytes that
     *   were handed over SOURCE_CHECKSUM_MISMATCH.
     * - Not journaled, send again: BACKLOG_FULL, SPOOL_FULL, SPOOL_FAILED, STORE_WRITE_FAILED, STORE_READ_FAILED, BRIDGE_NOT_READY, and where a
     *   stream that was handed over broke SOURCE_UNAVAILABLE or SOURCE_TIMEOUT.
     * - Not in the room, and never will be: FORBIDDEN, EVENT_TOO_LARGE, EVENT_REFUSED, NOT_SUPPORTED (the homeserver's last word),
     *   ENCRYPTION_UNAVAILABLE, CANCELLED (it was taken back).
     * - CLOSED: what was journaled goes on at the next start; the same `id` again hears of it.
     */
    send(message: RemoteMessage): Promise<SentMessage> {
        let checked: RemoteMessage;
        try {
            this.#life.assertStarted();
            checked = checkMessage(message);
        } catch (error) {
            return Promise.reject(asMediaError(error));
        }
        return this.#sendings.send(checked).then((record) => this.#sent(record));
    }

    /**
     * Journals a remote edit of a message that was given to `send()` before, pending or sent, and returns when the
     * homeserver has accepted it: an `m.replace` that stands behind its message in the room's line, with the message's
     * files in their places. The same `edit.id` again returns the first result.
     *
     * Rejects as `send()` does, with INVALID_ARGUMENT where `edit.id` is a message's, and with MESSAGE_UNKNOWN or, where the
     * message is not in the room, with the reason.
     */
    async edit(messageId: string, edit: MessageEdit): Promise<SentEdit> {
        this.#life.assertStarted();
        const { id, content, timestamp } = checkEdit(edit);
        if (id === messageId) throw foreignId(id);
        const { roomId, eventId = "" } = await this.#sendings.edit(messageId, ({ roomId, sender, encrypted }) => ({
            id,
            roomId,
            sender,
            content,
            ...(timestamp !== undefined && { timestamp }),
            ...(encrypted === true && { encrypted }),
        }));
        return { id, roomId, eventId };
    }

    /**
     * Reserves an MXC URI, journals the upload and returns at once; for code that sends its events itself. On a
     * homeserver without `/create` it returns when the file is there.
     */
    async upload(source: MediaSource, options: UploadOptions): Promise<PendingUpload> {
        this.#life.assertStarted();
        return this.#uploads.begin(checkSource(source), checkUploadOptions(options));
    }

    /**
     * Makes a file the picture of a user, once it is there, and resolves with its MXC URI. The file is shared as by
     * `dedupeKey`; without one, by what an http, connector or buffer source names. It is journaled before its upload is: when the process
     * ends, or it rejects with CLOSED, the next start goes on with it. It waits while the homeserver cannot be had, unless another picture waits
     * for it; when it rejects otherwise, the file could not come, or the homeserver refuses it as the picture.
     */
    async avatar(userId: string, source: MediaSource, options: AvatarOptions = {}): Promise<string> {
        this.#life.assertStarted();
        const checked = checkAvatar(userId, options);
        return this.#avatars.ofUser(userId, checkSource(source), checked);
    }

    /** The same for a room, as its `m.room.avatar`, sent by `sender`. @param options.sender Default: the bridge's bot. */
    async roomAvatar(
        roomId: string,
        source: MediaSource,
        options: AvatarOptions & { readonly sender?: string } = {},
    ): Promise<string> {
        this.#life.assertStarted();
        const { sender = this.#parts.bot(), ...checked } = checkRoomAvatar(roomId, options);
        return this.#avatars.ofRoom(roomId, sender, checkSource(source), checked);
    }

    /** Streams the jobs, in no particular order, however many there are. */
    async *jobs(filter: { readonly state?: JobState } = {}): AsyncGenerator<JobInfo> {
        this.#life.assertStarted();
        const { state } = checkJobFilter(filter);
        for await (const [, record] of this.#parts.store.range({ collection: JOBS })) {
            const job = jobFrom(record);
            if (state === undefined || state === job.state) yield jobInfo(job, 0);
        }
    }

    /**
     * Gives a failed job, or the one that has its place, another full set of tries. Rejects with JOB_UNKNOWN or
     * JOB_NOT_RETRYABLE.
     */
    async retry(jobId: string): Promise<void> {
        this.#life.assertStarted();
        await this.#parts.queue.retry((await newestJob(this.#parts.store, jobId))?.id ?? jobId);
        this.#parts.backlog.add(0, 1);
    }

    /**
     * Ends a job, or the one that has its place; its transfer stops and frees its place at once. Its event is edited
     * as after a failure, or with `redact` the whole message is taken back. Of a failed one what was kept for `retry()` goes,
     * its spooled bytes too. Rejects with JOB_UNKNOWN.
     */
    async cancel(jobId: string, options: CancelOptions = {}): Promise<void> {
        this.#life.assertStarted();
        await this.#parts.cancellation.job(jobId, checkCancelOptions(options).redact ?? false);
    }

    /**
     * For a remote message that was deleted: ends all its jobs, failed ones too. If its event is not sent yet, it never is, and `send()`
     * rejects with CANCELLED; one that is on its way may still arrive. With `redact` an event that is in the room is
     * redacted. Resolves when it is certain which. Rejects with MESSAGE_UNKNOWN.
     */
    async cancelMessage(messageId: string, options: CancelOptions = {}): Promise<void> {
        this.#life.assertStarted();
        const { redact = false } = checkCancelOptions(options);
        await this.#sendings.admitting(messageId);
        await this.#parts.cancellation.message(messageId, redact);
    }

    /** Calls `listener` whenever a job has changed, and now and then while its bytes flow. */
    on(event: "job", listener: (job: JobInfo) => void): this {
        checkListener(event, listener);
        this.#reactions.on(event, listener);
        return this;
    }

    off(event: "job", listener: (job: JobInfo) => void): this {
        checkListener(event, listener);
        this.#reactions.off(event, listener);
        return this;
    }

    /** Adds the `bridge_media_*` metrics to a prom-client registry or to matrix-appservice-bridge's PrometheusMetrics. */
    registerMetrics(registry: RegistryLike | BridgeMetricsLike): void {
        this.#parts.metrics.register(registry);
    }

    /**
     * Takes no more work, breaks transfers off (they begin anew at the next start), lets events and addresses that are on their way
     * arrive, and releases the data directory. Calls of `send()` that still wait reject with CLOSED.
     */
    close(): Promise<void> {
        return this.#life.close();
    }

    async #sent(message: MessageRecord): Promise<SentMessage> {
        const { id, roomId, eventId = "", jobs, places = [] } = message;
        const found = await loadJobs(this.#parts.store, jobs);
        const uploads = jobs.map((jobId, index): UploadHandle => {
            // One whose record was lost leaves the others where they are; its `done` says so.
            const job = found.find((candidate) => candidate.id === jobId);
            return Object.assign(handleOf(this.#parts.ends, jobId, job?.contentUri), {
                at: job?.at ?? places[index] ?? [],
            });
        });
        return { id, roomId, eventId, uploads: withShared(uploads, message) };
    }
}
