import { join } from "node:path";
import { MediaError } from "../errors.ts";
import { ActingUsers, type BridgeLike } from "../matrix/client.ts";
import { Unrepeated } from "../matrix/unrepeated.ts";
import { LevelStore } from "../store/level.ts";
import type { Store, Write } from "../store/store.ts";
import { RightOfWay } from "../right-of-way.ts";
import { createEngine, type Engine } from "../uploads/engine.ts";
import { isFinal, type Job } from "../uploads/job.ts";
import { KeyedLocks } from "../uploads/keyed-locks.ts";
import { UploadQueue } from "../uploads/queue.ts";
import { SourceGate } from "../uploads/source-gate.ts";
import { Spool } from "../uploads/sources/spool.ts";
import { Admission } from "./admission.ts";
import { Backlog } from "./backlog.ts";
import { Cancellation } from "./cancellation.ts";
import { Closing } from "./closing.ts";
import { Aftermath } from "./damage/aftermath.ts";
import { Addresses } from "./dedupe/addresses.ts";
import { Followers } from "./dedupe/followers.ts";
import { Forgetting } from "./dedupe/forgetting.ts";
import { KnownFiles } from "./dedupe/known-files.ts";
import { Lookup } from "./dedupe/lookup.ts";
import { Tending } from "./dedupe/tending.ts";
import { Turns } from "./dedupe/turns.ts";
import { HomeserverRequests } from "./homeserver-requests.ts";
import { Delivery } from "./delivery.ts";
import { Endings } from "./endings.ts";
import type { FailurePolicy } from "./event-content.ts";
import { ExpiryWatch } from "./expiry-watch.ts";
import { FailureQuestions } from "./failure-questions.ts";
import { JobEnds } from "./job-info.ts";
import { MessageFiles } from "./message-files.ts";
import { Metrics } from "./metrics.ts";
import type { CheckedOptions } from "./options-check.ts";
import { Outbox } from "./outbox.ts";
import { Outcomes } from "./outcomes.ts";
import { MAX_PROBED, Probe } from "./probe.ts";
import { jobEndWrites, type MessageRecord, reviseMark } from "./records.ts";
import { Replacement } from "./replacement.ts";
import { Registered } from "./registered.ts";
import { leftBy, Reservations } from "./reservations.ts";
import { Revisions } from "./revisions.ts";
import { RoomEncryption } from "./room-encryption.ts";
import { endJobs } from "./successor.ts";
import { Sweeper } from "./sweeper.ts";
import { Withdrawals } from "./withdrawals.ts";

/** Files that are remembered for messages to share. */
const MAX_SHARED_FILES = 100_000;

/** The component's parts, wired together. Nothing is opened or begun here. */
export interface Parts {
    readonly store: Store;
    readonly users: ActingUsers;
    readonly spool: Spool;
    readonly engine: Engine;
    readonly backlog: Backlog;
    readonly reservations: Reservations;
    readonly queue: UploadQueue;
    readonly outbox: Outbox;
    readonly files: MessageFiles;
    readonly admission: Admission;
    readonly revisions: Revisions;
    readonly sweeper: Sweeper;
    readonly aftermath: Aftermath;
    readonly metrics: Metrics;
    readonly lookup: Lookup;
    readonly registered: Registered;
    readonly addresses: Addresses;
    readonly tending: Tending;
    readonly forgetting: Forgetting;
    readonly ends: JobEnds;
    /** Events' ids of late, whoever asked for them. */
    readonly answers: Unrepeated;
    readonly requests: HomeserverRequests;
    readonly outcomes: Outcomes;
    readonly questions: FailureQuestions;
    readonly expiryWatch: ExpiryWatch;
    readonly cancellation: Cancellation;
    /** Whose quota and upload limit count for what this sender sends. */
    readonly uploaderOf: (sender: string) => string;
    /** The bridge's own user. Throws INVALID_ARGUMENT where it has none at hand. */
    readonly bot: () => string;
}

/** What the parts tell and ask the component. */
export interface Hooks {
    /** Aborts when the component closes. */
    readonly closing: AbortSignal;
    readonly nextSequence: () => string;
    /** Told after each journaled change of a job, and now and then while bytes flow. */
    readonly onJob: (job: Job, transferredBytes: number) => void;
    /** Told after another job has journaled `old`'s place. */
    readonly onReplaced: (old: Job, successor: Job) => void;
    /** Told after a message's outcome is journaled; `error` only for a refusal. */
    readonly onOutcome: (message: MessageRecord, error: MediaError | undefined) => void;
}

/** Throws MediaError INVALID_ARGUMENT for a bridge object that cannot be used. */
export function assemble(bridge: BridgeLike, options: CheckedOptions, hooks: Hooks): Parts {
    const { logger, onFailure, dataDir } = options;
    const users = new ActingUsers(bridge);
    const journal = join(dataDir, "journal");
    const store = options.store === undefined ? new LevelStore(journal) : options.store(journal);
    const spool = new Spool(join(dataDir, "spool"), options.maxSpoolBytes);
    const way = new RightOfWay();
    const uris = new Unrepeated();
    const engine = createEngine({
        ...options,
        users,
        spool,
        connectors: options.connectors,
        maxFileBytes: options.maxFileBytes,
        maxOpened: MAX_PROBED,
        way,
        uris,
    });
    const gate = new SourceGate(options.sourceLimits);
    const backlog = new Backlog(options.maxPendingJobs);
    const reservations = new Reservations({ store, users, logger, ahead: options.reserveAhead, uris });
    const messageLocks = new KeyedLocks();
    const jobLocks = new KeyedLocks();
    const withdrawals = new Withdrawals();
    const outcomes = new Outcomes();
    const policy = failurePolicy(options);
    const replacement = new Replacement({
        store,
        reservations,
        logger,
        messageLocks,
        jobLocks,
        onReplaced: hooks.onReplaced,
    });
    const onLeaderless = (key: string): void => tending.look(key);
    const files = new KnownFiles(store, onLeaderless);
    const hasten = (jobId: string, dueAt: number): void => queue.hasten(jobId, dueAt);
    const addresses = new Addresses({ store, files, reservations, hasten });
    const onJob = (job: Job): void => hooks.onJob(job, 0);
    const followers = new Followers({ store, jobLocks, alongside, onJob });
    const onTurn = (): void => queue.poke();
    const turns = new Turns({ store, files, followers, jobLocks, alongside, onJob, hasten, onTurn, onLeaderless });
    const checkMs = options.dedupeCheckMs;
    const keepMs = options.dedupeKeepMs;
    const lookup = new Lookup({ store, users, files, logger, checkMs, keepMs, closing: hooks.closing });
    const queue: UploadQueue = new UploadQueue({
        store,
        logger,
        concurrency: options.concurrency,
        smallFileConcurrency: options.smallFileConcurrency,
        maxAttempts: options.maxAttempts,
        gate,
        locks: jobLocks,
        openAhead: (job) => engine.openAhead(job),
        transfer: (job, signal, watch) => engine.transfer(job, signal, watch),
        complete: (job, signal) => engine.complete(job, signal),
        renew: (job, lost, signal) => replacement.renew(job, lost, signal),
        prepare: (job, signal, watch) => engine.prepare(job, signal, watch),
        alongside: (before, after) => {
            const left = leftBy(before, after);
            const kept = left === undefined ? [] : [reservations.keptWrite(left)];
            return [...alongside(before, after), ...turns.finishWrites(before, after), ...kept];
        },
        beforeBegin: (job) => turns.beforeBegin(job),
        handOver: (job, error) => turns.handOver(job, error),
        onChange: (job, bytes, before) => {
            const left = before && leftBy(before, job);
            if (left !== undefined) reservations.giveBack(left);
            hooks.onJob(job, bytes);
        },
    });
    const closing = new Closing();
    const registered = new Registered(users);
    const endings = new Endings({
        store,
        reservations,
        queue,
        messageLocks,
        release: (job) => turns.release(job, (own, mayBegin) => queue.release(own, mayBegin)),
        onOutcome: hooks.onOutcome,
        onJob,
    });
    const answers = new Unrepeated();
    const requests = new HomeserverRequests({ closing, logger, way });
    const delivery = new Delivery({
        answers,
        store,
        endings,
        users,
        registered,
        reservations,
        addresses,
        queue,
        gate,
        logger,
        onFailure: policy,
        encryption: new RoomEncryption({ users, logger, maxAttempts: options.maxAttempts, signal: closing.signal }),
        strategy: options.encryption,
        closing,
        requests,
        messageLocks,
        withdrawals,
        way,
        onJob,
    });
    const outbox = new Outbox({
        store,
        logger,
        closing,
        deliver: delivery.deliver.bind(delivery),
        isInDoubt: () => aftermath.isInDoubt,
    });
    const onHandedOver = ({ roomId, id }: MessageRecord, committed: Promise<void>): void =>
        outbox.append(roomId, id, committed);
    const questions = new FailureQuestions({
        store,
        logger,
        onFailure: typeof onFailure === "function" ? onFailure : undefined,
        texts: options.failureTexts,
        messageLocks,
        onAnswer: () => revisions.poke(),
    });
    const revisions: Revisions = new Revisions({
        store,
        logger,
        onFailure: policy,
        questions,
        messageLocks,
        nextSequence: hooks.nextSequence,
        endJobs: (ids) => endJobs(store, queue, ids),
        onHandedOver,
        onQueued: ({ roomId }) => {
            backlog.add(1, 0);
            outbox.notify(roomId);
        },
    });
    const tending: Tending = new Tending({ turns, followers, logger });
    const aftermath: Aftermath = new Aftermath({
        store,
        logger,
        reservations,
        messageLocks,
        jobLocks,
        strategy: options.encryption,
        onJob,
        onReviewed: async ({ putBack, filesLost }) => {
            backlog.add(0, putBack + filesLost);
            await tending.lookAtAll();
            revisions.poke();
            await queue.lookAgain();
            await outbox.lookAgain();
        },
    });
    const botFor = (code: "INVALID_OPTION" | "INVALID_ARGUMENT", field: string): string => {
        const bot = users.bot();
        if (bot === undefined) throw new MediaError(code, { field, detail: "the bridge has no bot" });
        return bot.userId;
    };
    const uploaderOf = (sender: string): string =>
        options.uploadAs === "sender" ? users.get(sender).userId : botFor("INVALID_OPTION", "uploadAs");
    const messageFiles = new MessageFiles({
        store,
        spool,
        lookup,
        probe: new Probe({
            open: (source, signal) => engine.open(source, signal),
            gate,
            onPlaceFree: () => queue.poke(),
            opened: engine.opened,
            probeMs: options.timeLimits.probeMs,
            describe: options.describe,
            logger,
            closing: hooks.closing,
        }),
        connectors: options.connectors,
        logger,
        closing: hooks.closing,
        onNewJob: (job) => engine.expect(job),
        uploaderOf,
        hasCrypto: (sender) => users.hasCrypto(sender),
    });
    return {
        store,
        users,
        spool,
        engine,
        backlog,
        reservations,
        queue,
        outbox,
        answers,
        requests,
        files: messageFiles,
        admission: new Admission({
            store,
            files: messageFiles,
            addresses,
            logger,
            way,
            messageLocks,
            nextSequence: hooks.nextSequence,
            onHandedOver,
        }),
        revisions,
        sweeper: new Sweeper({ store, spool, logger, keepResultsMs: options.keepResultsMs, messageLocks, jobLocks }),
        metrics: new Metrics({
            pendingMessages: () => backlog.messages,
            pendingJobs: () => backlog.jobs,
            activeTransfers: () => queue.active,
            reservations: () => reservations.count,
            spoolBytes: () => spool.usedBytes,
        }),
        lookup,
        registered,
        addresses,
        tending,
        aftermath,
        forgetting: new Forgetting({ store, files, logger, keepMs, maxFiles: MAX_SHARED_FILES }),
        ends: new JobEnds(store),
        outcomes,
        questions,
        expiryWatch: new ExpiryWatch({
            store,
            logger,
            renewAhead: (jobId, signal) => replacement.renewAhead(jobId, signal),
        }),
        cancellation: new Cancellation({
            store,
            spool,
            queue,
            endings,
            revisions,
            outcomes,
            withdrawals,
            messageLocks,
        }),
        uploaderOf,
        bot: () => botFor("INVALID_ARGUMENT", "sender"),
    };
}

function failurePolicy({ onFailure, failureTexts }: CheckedOptions): FailurePolicy {
    return { mode: typeof onFailure === "function" ? "callback" : onFailure, texts: failureTexts };
}

/** What has to be journaled in the same step as a job's change: its end, and that its event is to be looked at. */
function alongside(before: Job, after: Job): Write[] {
    if (!isFinal(after.state)) return isRenewed(before, after) ? [reviseMark(after.messageId)] : [];
    const writes = jobEndWrites(before, after);
    if (mustRevise(after)) writes.push(reviseMark(after.messageId));
    return writes;
}

/** Whether its file was encrypted anew: its event shows a key that is of no use any more. */
function isRenewed(before: Job, after: Job): after is Job & { messageId: string } {
    const { encryption, messageId } = after;
    return messageId !== undefined && encryption?.renewed === true && encryption.file !== before.encryption?.file;
}

/** Whether a job that has ended may make its event untrue, or its keys needless. */
export function mustRevise(job: Job): job is Job & { messageId: string } {
    return (
        job.messageId !== undefined && (job.state !== "done" || job.revived === true || job.encryption !== undefined)
    );
}
