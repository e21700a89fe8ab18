import { EventEmitter } from "node:events";
import { join } from "node:path";
import { asMediaError, MediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { ActingUsers, type BridgeLike } from "../matrix/client.ts";
import { LevelStore } from "../store/level.ts";
import type { Store, Write } from "../store/store.ts";
import {
    isFinal,
    JOBS,
    type Job,
    type JobState,
    jobFrom,
    jobWrites,
    SCHEDULE,
    transition,
    WAITING,
} from "../uploads/job.ts";
import { UploadQueue } from "../uploads/queue.ts";
import { addressPolicy } from "../uploads/sources/address-guard.ts";
import { ConnectorSource } from "../uploads/sources/connector.ts";
import { FileSource } from "../uploads/sources/file.ts";
import { HttpSource } from "../uploads/sources/http.ts";
import { Spool } from "../uploads/sources/spool.ts";
import { HomeserverTarget } from "../uploads/targets/homeserver.ts";
import { transfer } from "../uploads/transfer.ts";
import { UploadLimits } from "../uploads/upload-limits.ts";
import { Admission, type Admitted } from "./admission.ts";
import { JobEnds, jobInfo } from "./job-info.ts";
import type { JobInfo, MediaSource, PendingUpload, RemoteMessage, SentMessage, UploadHandle } from "./message.ts";
import { checkMessage, checkSource, checkUploadOptions, type UploadOptions } from "./message-check.ts";
import { type BridgeMetricsLike, Metrics, type RegistryLike } from "./metrics.ts";
import type { BridgeMediaOptions } from "./options.ts";
import { type CheckedOptions, checkOptions } from "./options-check.ts";
import { Outbox } from "./outbox.ts";
import { finishedWrite, loadJobs, loadMessage, type MessageRecord, OUTBOX, REVISE } from "./records.ts";
import { Reservations, takenWrite } from "./reservations.ts";
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
    readonly #http: HttpSource;
    readonly #reservations: Reservations;
    readonly #queue: UploadQueue;
    readonly #outbox: Outbox;
    readonly #admission: Admission;
    readonly #revisions: Revisions;
    readonly #sweeper: Sweeper;
    readonly #metrics: Metrics;
    readonly #ends: JobEnds;
    readonly #events = new EventEmitter();
    /** Calls of `send()` that wait for their outcome, by message id. */
    readonly #outcomes = new EventEmitter().setMaxListeners(0);
    readonly #sending = new Map<string, Promise<SentMessage>>();
    readonly #closing = new AbortController();
    #pendingMessages = 0;
    #pendingJobs = 0;
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
        this.#users = new ActingUsers(bridge);
        const { logger, onFailure, timeLimits: limits } = checked;
        const users = this.#users;
        const store = new LevelStore(join(checked.dataDir, "journal"));
        this.#store = store;
        this.#spool = new Spool(join(checked.dataDir, "spool"), checked.maxSpoolBytes);
        this.#http = new HttpSource(addressPolicy(checked.allowPrivateAddresses), limits);
        this.#reservations = new Reservations({ store, users, logger, ahead: checked.reserveAhead });
        const transferParts = {
            sources: {
                http: this.#http,
                file: new FileSource(),
                connector: new ConnectorSource(checked.connectors),
                spool: this.#spool,
            },
            target: new HomeserverTarget(users, limits),
            spool: this.#spool,
            uploadLimits: new UploadLimits(users, checked.maxFileBytes ?? Number.MAX_SAFE_INTEGER, logger),
            limits,
        };
        this.#queue = new UploadQueue({
            store,
            logger,
            concurrency: checked.concurrency,
            maxAttempts: checked.maxAttempts,
            transfer: (job, signal, onBytes) => transfer(job, transferParts, signal, onBytes),
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
                this.#pendingMessages++;
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
            pendingMessages: () => this.#pendingMessages,
            pendingJobs: () => this.#pendingJobs,
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
        this.#nextSequence = await openSequence(this.#store);
        await this.#spool.start((name) => this.#isSpoolNeeded(name));
        await this.#reservations.start();
        await this.#countPending();
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
        if (underWay !== undefined) return underWay;
        const sending = this.#send(checked).finally(() => this.#sending.delete(checked.id));
        this.#sending.set(checked.id, sending);
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
        this.#enterBacklog(0, 1);
        let spooled: Job[] = [];
        try {
            const uploader = this.#uploaderOf(userId);
            const of = { mimetype: undefined, filename: undefined, size: undefined, ...known, uploader, backfill };
            const job = await this.#admission.newJob(checkedSource, of);
            spooled = [job];
            return this.#handle(job.id, await this.#uploadJob(job));
        } catch (error) {
            this.#pendingJobs--;
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
        this.#pendingJobs++;
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
        for (const id of this.#outcomes.eventNames()) this.#outcomes.emit(id, undefined, new MediaError("CLOSED"));
        await Promise.allSettled(this.#sending.values());
        this.#http.close();
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
                this.#enterBacklog(1, files);
                entered = true;
            });
            for (const job of admitted.jobs) this.#events.emit("job", jobInfo(job, 0));
            return admitted;
        } catch (error) {
            if (entered) {
                this.#pendingMessages--;
                this.#pendingJobs -= files;
            }
            throw error;
        }
    }

    /** Waits for a queued message's outcome, listening before its lane is woken. */
    #outcomeOf({ id, roomId }: MessageRecord): Promise<MessageRecord> {
        return new Promise((resolve, reject) => {
            this.#outcomes.once(id, (outcome: MessageRecord | undefined, error: MediaError | undefined) => {
                if (outcome === undefined || error !== undefined) reject(error ?? new MediaError("CLOSED"));
                else resolve(outcome);
            });
            if (this.#state === "closed") this.#outcomes.emit(id, undefined, new MediaError("CLOSED"));
            else this.#outbox.notify(roomId);
        });
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

    async #uploadJob(job: Job): Promise<string> {
        const { signal } = this.#closing;
        for (let attempt = 0; ; attempt++) {
            this.#assertStarted();
            const obtained = await this.#reservations.obtain(job.uploader, signal).catch((error: unknown) => {
                if (error instanceof MediaError && error.code === "NOT_SUPPORTED") return undefined;
                throw error;
            });
            if (obtained === undefined) return this.#uploadInOneStep(job);
            if ("blockedForMs" in obtained) {
                await this.#reservations.waitForPlace(job.uploader, obtained.blockedForMs, signal);
                continue;
            }
            const { contentUri, expiresAt } = obtained.reservation;
            const reserved = transition(job, { type: "reserve", contentUri, expiresAt }) ?? job;
            const { job: ready } = this.#queue.releaseWrites(reserved);
            await this.#store.commit([...jobWrites(undefined, ready), takenWrite(obtained.reservation)]);
            this.#jobChanged(ready, 0);
            this.#queue.poke();
            this.#reservations.keepAhead(job.uploader);
            return contentUri;
        }
    }

    async #uploadInOneStep(job: Job): Promise<string> {
        await this.#store.commit(jobWrites(undefined, job));
        const { contentUri, error } = await this.#queue.runNow(job, this.#closing.signal);
        if (contentUri === undefined) throw new MediaError(error?.code ?? "UPLOAD_REFUSED", { cause: error });
        return contentUri;
    }

    #jobChanged(job: Job, transferredBytes: number): void {
        this.#events.emit("job", jobInfo(job, transferredBytes));
        if (!isFinal(job.state)) return;
        this.#pendingJobs--;
        this.#metrics.jobEnded(job.state, transferredBytes);
        this.#ends.ended(job);
        this.#reservations.placeFreed(job.uploader);
        if (job.state !== "failed" && job.source.kind === "spool") {
            this.#spool.remove(job.source.name).catch((error: unknown) => {
                this.#logger.warn("A spooled file could not be removed", { jobId: job.id, error });
            });
        }
        if (job.messageId !== undefined) this.#revisions.poke();
    }

    #messageEnded(message: MessageRecord, error: MediaError | undefined): void {
        this.#pendingMessages--;
        this.#metrics.messageEnded(error === undefined ? "sent" : "refused");
        this.#outcomes.emit(message.id, message, error);
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

    /** Counts what an earlier run left. */
    async #countPending(): Promise<void> {
        for await (const [, entry] of this.#store.range({ collection: OUTBOX })) {
            this.#pendingMessages++;
            const message = await loadMessage(this.#store, String(entry["id"]));
            const jobs = await loadJobs(this.#store, message?.jobs ?? []);
            // The others are in the schedule already, and counted there.
            this.#pendingJobs += jobs.filter(({ state }) => state === "unreserved" || state === "reserved").length;
        }
        for (const collection of [SCHEDULE, WAITING]) {
            for await (const _ of this.#store.keys({ collection })) this.#pendingJobs++;
        }
    }

    #assertStarted(): void {
        if (this.#state === "new") throw new MediaError("NOT_STARTED");
        if (this.#state === "closed") throw new MediaError("CLOSED");
    }

    /** Counts new work in, or throws BACKLOG_FULL. */
    #enterBacklog(messages: number, jobs: number): void {
        const pending = this.#pendingMessages + this.#pendingJobs;
        if (pending >= this.#options.maxPendingJobs)
            throw new MediaError("BACKLOG_FULL", { detail: `${pending} pending` });
        this.#pendingMessages += messages;
        this.#pendingJobs += jobs;
    }
}

/** What has to be journaled in the same step as a job's change: its end, and that its event is to be looked at. */
function alongside(_before: Job, after: Job): Write[] {
    if (!isFinal(after.state)) return [];
    const writes = [finishedWrite(after.finishedAt ?? Date.now(), "job", after.id)];
    const roomMustHear = after.state !== "done" || after.revived === true;
    if (after.messageId !== undefined && roomMustHear)
        writes.push({ collection: REVISE, key: after.messageId, record: {} });
    return writes;
}

function refusal({ error }: MessageRecord): MediaError {
    return new MediaError(error?.code ?? "EVENT_REFUSED", error === undefined ? {} : { cause: error });
}
