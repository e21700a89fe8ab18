import { EventEmitter, setMaxListeners } from "node:events";
import { join } from "node:path";
import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { ActingUsers, type BridgeLike } from "../matrix/client.ts";
import { LevelStore } from "../store/level.ts";
import type { Store, Write } from "../store/store.ts";
import { isFinal, JOBS, type Job, type JobState, jobFrom } from "../uploads/job.ts";
import { createEngine, type Engine } from "../uploads/engine.ts";
import { UploadQueue } from "../uploads/queue.ts";
import { Spool } from "../uploads/sources/spool.ts";
import { Admission, type Admitted } from "./admission.ts";
import { Backlog } from "./backlog.ts";
import { uploadAlone } from "./bare-upload.ts";
import { JobEnds, jobInfo } from "./job-info.ts";
import type { JobInfo, MediaSource, PendingUpload, RemoteMessage, SentMessage, UploadHandle } from "./message.ts";
import { checkMessage, checkSource, checkUploadOptions, type UploadOptions } from "./message-check.ts";
import { type BridgeMetricsLike, Metrics, type RegistryLike } from "./metrics.ts";
import type { BridgeMediaOptions } from "./options.ts";
import { type CheckedOptions, checkOptions } from "./options-check.ts";
import { Outbox } from "./outbox.ts";
import { Outcomes } from "./outcomes.ts";
import { fingerprintOf, finishedWrite, loadJobs, type MessageRecord, REVISE } from "./records.ts";
import { Reservations } from "./reservations.ts";
import { Revisions } from "./revisions.ts";
import { openSequence } from "./sequence.ts";
import { Sweeper } from "./sweeper.ts";

/**
 * The component that a bridge embeds: it journals each remote message, sends its event at once and in order, and
 * streams its files behind it. This class only wires the parts together; the order is kept by `Admission` and
 * `Outbox`, the transfers by `UploadQueue`, and what survives a crash by the store.
 *
 * After a crash `start()` finds everything in the journal: lines of events go on where they stood, jobs that were
 * under way begin anew, marks for edits are worked off, and spooled files that nothing needs are removed.
 */
export class BridgeMedia {
    readonly #options: CheckedOptions;
    readonly #logger: Logger;
    readonly #users: ActingUsers;
    readonly #store: Store;
    readonly #spool: Spool;
    readonly #engine: Engine;
    readonly #backlog: Backlog;
    readonly #reservations: Reservations;
    readonly #queue: UploadQueue;
    readonly #outbox: Outbox;
    readonly #admission: Admission;
    readonly #revisions: Revisions;
    readonly #sweeper: Sweeper;
    readonly #metrics: Metrics;
    readonly #ends: JobEnds;
    readonly #events = new EventEmitter();
    readonly #outcomes = new Outcomes();
    readonly #sending = new Map<string, { readonly sending: Promise<SentMessage>; readonly message: RemoteMessage }>();
    readonly #closing = new AbortController();
    #nextSequence: () => string = () => "";
    #state: "new" | "started" | "closed" = "new";

    /**
     * @param bridge matrix-appservice-bridge's `Bridge`, matrix-bot-sdk's `Appservice`, or anything with
     *   `getIntent(userId)`.
     * @throws MediaError INVALID_OPTION or INVALID_ARGUMENT, naming the field. Nothing is opened yet.
     */
    constructor(bridge: BridgeLike, options: BridgeMediaOptions) {
        const checked = checkOptions(options);
        this.#options = checked;
        this.#logger = checked.logger;
        // Every call that waits listens.
        setMaxListeners(0, this.#closing.signal);
        this.#users = new ActingUsers(bridge);
        const { logger, onFailure } = checked;
        const users = this.#users;
        const store = new LevelStore(join(checked.dataDir, "journal"));
        this.#store = store;
        this.#spool = new Spool(join(checked.dataDir, "spool"), checked.maxSpoolBytes);
        this.#engine = createEngine({
            ...checked,
            users,
            spool: this.#spool,
            connectors: checked.connectors,
            maxFileBytes: checked.maxFileBytes,
        });
        this.#backlog = new Backlog(checked.maxPendingJobs);
        this.#reservations = new Reservations({ store, users, logger, ahead: checked.reserveAhead });
        this.#queue = new UploadQueue({
            store,
            logger,
            concurrency: checked.concurrency,
            maxAttempts: checked.maxAttempts,
            transfer: (job, signal, onBytes) => this.#engine.transfer(job, signal, onBytes),
            alongside,
            onChange: (job, bytes) => this.#jobChanged(job, bytes),
        });
        const nextSequence = (): string => this.#nextSequence();
        this.#revisions = new Revisions({
            store,
            logger,
            onFailure,
            nextSequence,
            onQueued: (edit) => {
                this.#backlog.add(1, 0);
                this.#outbox.notify(edit.roomId);
            },
        });
        this.#outbox = new Outbox({
            store,
            users,
            reservations: this.#reservations,
            queue: this.#queue,
            logger,
            onFailure,
            onOutcome: (message, error) => this.#messageEnded(message, error),
            onJob: (job) => this.#jobChanged(job, 0),
        });
        this.#admission = new Admission({
            store,
            spool: this.#spool,
            reservations: this.#reservations,
            logger,
            closing: this.#closing.signal,
            nextSequence,
            uploaderOf: (sender) => this.#uploaderOf(sender),
        });
        this.#sweeper = new Sweeper({ store, spool: this.#spool, logger, keepResultsMs: checked.keepResultsMs });
        this.#ends = new JobEnds(store);
        this.#metrics = new Metrics({
            pendingMessages: () => this.#backlog.messages,
            pendingJobs: () => this.#backlog.jobs,
            activeTransfers: () => this.#queue.active,
            reservations: () => this.#reservations.count,
            spoolBytes: () => this.#spool.usedBytes,
        });
    }

    /**
     * Opens the data directory and goes on with what an earlier run left. The homeserver need not be up.
     * Rejects with STORE_LOCKED, STORE_NEWER_SCHEMA or STORE_UNUSABLE.
     */
    async start(): Promise<void> {
        if (this.#state === "closed") throw new MediaError("CLOSED");
        if (this.#state === "started") return;
        await this.#store.open((damage) => {
            this.#logger.error("The journal was damaged; what is named here is lost, the rest goes on", damage);
        });
        try {
            this.#nextSequence = await openSequence(this.#store);
            await this.#spool.start((name) => this.#isSpoolNeeded(name));
            await this.#reservations.start();
            await this.#backlog.takeStock(this.#store);
        } catch (error) {
            await this.#store.close();
            this.#state = "closed";
            throw asMediaError(error, "STORE_UNUSABLE");
        }
        this.#state = "started";
        this.#queue.start();
        await this.#outbox.start();
        this.#revisions.poke();
        this.#sweeper.start();
    }

    /**
     * Journals a remote message, sends its event and returns when the homeserver has accepted it; the files follow.
     * Calls keep their order in a room also when they are not awaited. The same `id` again returns the first result.
     *
     * Rejects with a MediaError: INVALID_ARGUMENT (nothing was journaled), BACKLOG_FULL, SPOOL_FULL,
     * STORE_WRITE_FAILED (not journaled, send again), FORBIDDEN, EVENT_TOO_LARGE, EVENT_REFUSED (the homeserver's last
     * word), CLOSED (journaled: it goes on at the next start).
     */
    send(message: RemoteMessage): Promise<SentMessage> {
        let checked: RemoteMessage;
        try {
            this.#assertStarted();
            checked = checkMessage(message);
        } catch (error) {
            return Promise.reject(asMediaError(error));
        }
        const underWay = this.#sending.get(checked.id);
        if (underWay !== undefined) {
            this.#admission.compare(fingerprintOf(underWay.message), checked);
            return underWay.sending;
        }
        const sending = this.#send(checked).finally(() => this.#sending.delete(checked.id));
        this.#sending.set(checked.id, { sending, message: checked });
        return sending;
    }

    /**
     * Reserves an MXC URI, journals the upload and returns at once; for code that sends its events itself. On a
     * homeserver without `/create` it returns when the file is there.
     */
    async upload(source: MediaSource, options: UploadOptions): Promise<PendingUpload> {
        this.#assertStarted();
        const checkedSource = checkSource(source);
        const { userId, backfill = false, ...known } = checkUploadOptions(options);
        this.#backlog.enter(0, 1);
        let spooled: Job[] = [];
        try {
            const uploader = this.#uploaderOf(userId);
            const of = { mimetype: undefined, filename: undefined, size: undefined, ...known, uploader, backfill };
            const job = await this.#admission.newJob(checkedSource, of);
            spooled = [job];
            const contentUri = await uploadAlone(job, {
                store: this.#store,
                queue: this.#queue,
                reservations: this.#reservations,
                closing: this.#closing.signal,
                onJob: (changed) => this.#jobChanged(changed, 0),
            });
            return this.#handle(job.id, contentUri);
        } catch (error) {
            this.#backlog.add(0, -1);
            await this.#admission.discard(spooled);
            throw error;
        }
    }

    /** Streams the jobs, in no particular order, however many there are. */
    async *jobs(filter: { readonly state?: JobState } = {}): AsyncGenerator<JobInfo> {
        this.#assertStarted();
        for await (const [, record] of this.#store.range({ collection: JOBS })) {
            const job = jobFrom(record);
            if (filter.state === undefined || filter.state === job.state) yield jobInfo(job, 0);
        }
    }

    /** Gives a failed job another full set of tries. Rejects with JOB_UNKNOWN or JOB_NOT_RETRYABLE. */
    async retry(jobId: string): Promise<void> {
        this.#assertStarted();
        await this.#queue.retry(jobId);
        this.#backlog.add(0, 1);
    }

    /** Ends a job; its event is edited as after a failure. Rejects with JOB_UNKNOWN. */
    async cancel(jobId: string): Promise<void> {
        this.#assertStarted();
        await this.#queue.cancel(jobId);
    }

    /** Calls `listener` whenever a job has changed, and now and then while its bytes flow. */
    on(event: "job", listener: (job: JobInfo) => void): this {
        this.#events.on(event, listener);
        return this;
    }

    off(event: "job", listener: (job: JobInfo) => void): this {
        this.#events.off(event, listener);
        return this;
    }

    /** Adds the `bridge_media_*` metrics to a prom-client registry or to matrix-appservice-bridge's PrometheusMetrics. */
    registerMetrics(registry: RegistryLike | BridgeMetricsLike): void {
        this.#metrics.register(registry);
    }

    /**
     * Takes no more work, breaks transfers off (they begin anew at the next start), lets events that are on their way
     * arrive, and releases the data directory. Calls of `send()` that still wait reject with CLOSED.
     */
    async close(): Promise<void> {
        if (this.#state !== "started") {
            this.#state = "closed";
            return;
        }
        this.#state = "closed";
        this.#closing.abort(new MediaError("CLOSED"));
        await Promise.all([this.#queue.close(), this.#outbox.close(), this.#reservations.close()]);
        await this.#revisions.close();
        await this.#sweeper.close();
        this.#outcomes.close();
        this.#ends.close();
        await Promise.allSettled([...this.#sending.values()].map(({ sending }) => sending));
        this.#engine.close();
        await this.#store.close();
    }

    async #send(message: RemoteMessage): Promise<SentMessage> {
        const began = performance.now();
        const { message: record, isNew } = await this.#admit(message);
        const outcome = record.state === "queued" ? await this.#outcomeOf(record) : record;
        if (outcome.state === "refused") throw refusal(outcome);
        if (isNew) this.#metrics.sendTook(performance.now() - began, record.jobs.length > 0 ? "media" : "text");
        return this.#sent(outcome);
    }

    async #admit(message: RemoteMessage): Promise<Admitted> {
        const files = message.media?.length ?? 0;
        let entered = false;
        try {
            const admitted = await this.#admission.admit(message, () => {
                this.#backlog.enter(1, files);
                entered = true;
            });
            for (const job of admitted.jobs) this.#tell(job, 0);
            return admitted;
        } catch (error) {
            if (entered) this.#backlog.add(-1, -files);
            throw error;
        }
    }

    #outcomeOf({ id, roomId }: MessageRecord): Promise<MessageRecord> {
        // Listening before the lane is woken: the outcome may come at once.
        const outcome = this.#outcomes.of(id);
        this.#outbox.notify(roomId);
        return outcome;
    }

    async #sent({ id, roomId, eventId = "", jobs }: MessageRecord): Promise<SentMessage> {
        const found = await loadJobs(this.#store, jobs);
        const uploads = found.map((job): UploadHandle => {
            const { at = [], contentUri } = job;
            return Object.assign(this.#handle(job.id, contentUri), { at });
        });
        return { id, roomId, eventId, uploads };
    }

    #handle<Uri extends string | undefined>(jobId: string, contentUri: Uri) {
        const ends = this.#ends;
        let done: Promise<JobInfo> | undefined;
        return {
            jobId,
            contentUri,
            // Asked for only when somebody looks; and whoever looks need not handle a failure.
            get done(): Promise<JobInfo> {
                if (done === undefined) {
                    done = ends.of(jobId);
                    done.catch(() => {});
                }
                return done;
            },
        };
    }

    #jobChanged(job: Job, transferredBytes: number): void {
        this.#tell(job, transferredBytes);
        if (!isFinal(job.state)) return;
        this.#backlog.add(0, -1);
        this.#metrics.jobEnded(job.state, transferredBytes);
        this.#ends.ended(job);
        this.#reservations.placeFreed(job.uploader);
        if (job.state !== "failed" && job.source.kind === "spool") {
            this.#spool.remove(job.source.name).catch((error: unknown) => {
                this.#logger.warn("A spooled file could not be removed", { jobId: job.id, error });
            });
        }
        if (mustRevise(job)) this.#revisions.poke();
    }

    /** A listener that throws must not take a transfer with it. */
    #tell(job: Job, transferredBytes: number): void {
        try {
            this.#events.emit("job", jobInfo(job, transferredBytes));
        } catch (error) {
            this.#logger.error("A listener of job events threw", { jobId: job.id, error });
        }
    }

    #messageEnded(message: MessageRecord, error: MediaError | undefined): void {
        this.#backlog.add(-1, 0);
        this.#metrics.messageEnded(error === undefined ? "sent" : "refused");
        this.#outcomes.ended(message);
        if (error !== undefined) {
            this.#logger.warn("The homeserver refused a message", {
                id: message.id,
                roomId: message.roomId,
                code: error.code,
            });
        }
        if (message.jobs.length > 0) this.#revisions.poke();
    }

    #uploaderOf(sender: string): string {
        if (this.#options.uploadAs === "sender") return this.#users.get(sender).userId;
        const bot = this.#users.bot();
        if (bot === undefined)
            throw new MediaError("INVALID_OPTION", { field: "uploadAs", detail: "the bridge has no bot" });
        return bot.userId;
    }

    async #isSpoolNeeded(name: string): Promise<boolean> {
        const record = await this.#store.get(JOBS, name);
        const job = record && jobFrom(record);
        return (
            job?.source.kind === "spool" &&
            job.source.name === name &&
            job.state !== "done" &&
            job.state !== "cancelled"
        );
    }

    #assertStarted(): void {
        if (this.#state === "new") throw new MediaError("NOT_STARTED");
        if (this.#state === "closed") throw new MediaError("CLOSED");
    }
}

/** What has to be journaled in the same step as a job's change: its end, and that its event is to be looked at. */
function alongside(_before: Job, after: Job): Write[] {
    if (!isFinal(after.state)) return [];
    const writes = [finishedWrite(after.finishedAt ?? Date.now(), "job", after.id)];
    if (mustRevise(after)) writes.push({ collection: REVISE, key: after.messageId, record: {} });
    return writes;
}

/** Whether a job that has ended may make its event untrue. */
function mustRevise(job: Job): job is Job & { messageId: string } {
    return job.messageId !== undefined && (job.state !== "done" || job.revived === true);
}

function refusal({ error }: MessageRecord): MediaError {
    return new MediaError(error?.code ?? "EVENT_REFUSED", error === undefined ? {} : { cause: error });
}
