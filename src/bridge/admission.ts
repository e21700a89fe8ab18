import { randomUUID } from "node:crypto";
import { addAbortSignal, Readable } from "node:stream";
import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { RightOfWay } from "../right-of-way.ts";
import type { Store, Write } from "../store/store.ts";
import { counted, type Promised } from "../uploads/counted.ts";
import type { Job } from "../uploads/job.ts";
import { transition } from "../uploads/transition.ts";
import { jobWrites } from "../uploads/job-records.ts";
import type { SourceDescription } from "../uploads/sources/source.ts";
import type { Spool } from "../uploads/sources/spool.ts";
import type { Addresses, Claim } from "./dedupe/addresses.ts";
import type { Lookup } from "./dedupe/lookup.ts";
import { type SharedFile, sharedKeyOf } from "./dedupe/shared-file.ts";
import { deferred } from "../deferred.ts";
import { describedFile, withUris } from "./event-content.ts";
import { promisedFamily } from "./promised-family.ts";
import { withFinding } from "./finding.ts";
import type { MediaItem, MediaSource, RemoteMessage } from "./message.ts";
import type { Probe } from "./probe.ts";
import {
    EDITED,
    fingerprintOf,
    loadMessage,
    type MessageRecord,
    messageWrite,
    outboxWrite,
    type SharedItem,
    transactionIdOf,
} from "./records.ts";

/**
 * The way of a message into the journal, in the order of the calls.
 *
 * A message's place in its room's line is taken before the first await. What has to happen before it can be journaled
 * (is its id known? are its bytes spooled?) runs side by side with the others', but a message is handed to the store
 * only after the one before it in its room has been, or has failed; the store keeps that order. So nothing is ever
 * journaled ahead of its turn, and a lane that reads the line's beginning can rely on it.
 */
export interface AdmissionParts {
    readonly store: Store;
    readonly spool: Spool;
    readonly addresses: Addresses;
    readonly lookup: Lookup;
    readonly probe: Probe;
    readonly logger: Logger;
    /** Aborts when the component closes: a stream that is being spooled is then let go. */
    readonly closing: AbortSignal;
    readonly way: RightOfWay;
    readonly nextSequence: () => string;
    /** Told when a message was handed to the store, in the order of the room's line. */
    readonly onHandedOver: (message: MessageRecord, committed: Promise<void>) => void;
    readonly uploaderOf: (sender: string) => string;
    readonly hasCrypto: (sender: string) => boolean;
}

export interface Admitted {
    readonly message: MessageRecord;
    /** False when an earlier call had journaled it. */
    readonly isNew: boolean;
    /** The jobs that came with it. */
    readonly jobs: readonly Job[];
}

/** What is known of a job before its source is. */
type KnownOfJob = Pick<
    Job,
    | "uploader"
    | "backfill"
    | "messageId"
    | "roomId"
    | "at"
    | "mimetype"
    | "family"
    | "size"
    | "filename"
    | "publicUrl"
    | "sha256"
    | "dedupe"
>;

/** A message's files: those that need a job, and those that are there already. */
interface Files {
    readonly jobs: readonly Job[];
    readonly shared: readonly SharedItem[];
    /** What notes that those are used. */
    readonly noted: readonly Write[];
    /** The message's content, with what a probe has found. */
    readonly content: RemoteMessage["content"];
}

interface Sharing {
    readonly dedupe?: string | undefined;
    readonly file?: SharedFile | undefined;
}

export class Admission {
    readonly #parts: AdmissionParts;
    readonly #turns = new Map<string, Promise<void>>();

    constructor(parts: AdmissionParts) {
        this.#parts = parts;
    }

    /**
     * Journals a checked message. `stillRoom` is asked once it is known that the message is new.
     * @param edits The message that it is an edit of.
     */
    async admit(message: RemoteMessage, stillRoom: () => void, edits?: string): Promise<Admitted> {
        const { roomId } = message;
        const before = this.#turns.get(roomId);
        const turn = deferred();
        this.#turns.set(roomId, turn.promise);
        const passOn = (): void => {
            if (this.#turns.get(roomId) === turn.promise) this.#turns.delete(roomId);
            turn.resolve();
        };
        const claims: Claim[] = [];
        let jobs: readonly Job[] = [];
        try {
            const known = await loadMessage(this.#parts.store, message.id);
            if (known !== undefined) return this.#repeated(known, message);
            stillRoom();
            const files = await this.#filesOf(message);
            ({ jobs } = files);
            await before;
            const { record, writes } = this.#prepare(message, files, claims, edits);
            const committed = this.#parts.store.commit(writes);
            this.#parts.onHandedOver(record, committed);
            passOn();
            await this.#parts.way.first(() => committed);
            for (const claim of claims) claim.confirm();
            return { message: record, isNew: true, jobs };
        } catch (error) {
            for (const claim of claims) claim.undo();
            await this.discard(jobs);
            throw error;
        } finally {
            passOn();
        }
    }

    /** A job for one file: its bytes are spooled where the caller has handed them over. */
    async newJob(source: MediaSource, known: KnownOfJob): Promise<Job> {
        const id = randomUUID();
        const kept = await this.#keep(id, source, known);
        const size = kept.size ?? known.size;
        return { ...known, id, state: "unreserved", size, source: kept.source, createdAt: Date.now(), attempts: 0 };
    }

    /** Removes what was spooled for jobs that never came into the journal. */
    async discard(jobs: readonly Job[]): Promise<void> {
        for (const { id, source } of jobs) {
            this.#parts.probe.discard(id);
            if (source.kind === "spool") await this.#parts.spool.remove(source.name);
        }
    }

    /** Warns when a message that came again is not what it was. */
    compare(fingerprint: string, message: RemoteMessage): void {
        if (fingerprint === fingerprintOf(message)) return;
        const text = "send() was called again with a known id but another content: the first one stands";
        this.#parts.logger.warn(text, { id: message.id });
    }

    #repeated(known: MessageRecord, message: RemoteMessage): Admitted {
        this.compare(known.fingerprint, message);
        return { message: known, isNew: false, jobs: [] };
    }

    /** A job for each of a message's files, apart from those that are there already; and what a probe has found. */
    async #filesOf(message: RemoteMessage): Promise<Files> {
        const { media = [], eventType = "m.room.message" } = message;
        const jobs: Job[] = [];
        const shared: SharedItem[] = [];
        const noted: Write[] = [];
        const uploader = this.#parts.uploaderOf(message.sender);
        const found = this.#sharing(message, uploader);
        // A sticker that is sent again and again costs no more turns of the loop than a text.
        const sharing = found instanceof Promise ? await found : found;
        // What is there already is not opened.
        const isProbed = ({ probeHeaders }: MediaItem, index: number): boolean =>
            probeHeaders === true && sharing[index]?.file === undefined;
        const probe = async (item: MediaItem, index: number) =>
            isProbed(item, index) ? this.#parts.probe.one(item.source) : undefined;
        const probes = media.some(isProbed) ? await Promise.all(media.map(probe)) : [];
        const unused = new Set(probes);
        let { content } = message;
        try {
            for (const [index, item] of media.entries()) {
                const { dedupe, file } = sharing[index] ?? {};
                if (file !== undefined) {
                    if (item.source.kind === "stream") item.source.stream.destroy();
                    const { contentUri, size, leader = "" } = file;
                    shared.push({ index, at: item.at, contentUri, size, jobId: leader });
                    noted.push(...this.#parts.lookup.useWrites(file));
                    continue;
                }
                const { at, source, probeHeaders, dedupeKey: _, transformVersion: __, ...given } = item;
                const probed = probes[index];
                if (probeHeaders === true)
                    content = withFinding(content, eventType, at, { ...probed?.found, ...given });
                const known = {
                    ...describedFile(content, at),
                    family: promisedFamily(content, eventType, at),
                    ...given,
                    uploader,
                    backfill: message.backfill ?? false,
                    messageId: message.id,
                    roomId: message.roomId,
                    at,
                    dedupe,
                };
                const job = await this.newJob(probed?.source ?? source, known);
                jobs.push(job);
                unused.delete(probed);
                probed?.keepFor(job.id);
            }
            return { jobs, shared, noted, content };
        } catch (error) {
            for (const probed of unused) probed?.letGo();
            await this.discard(jobs);
            throw error;
        }
    }

    /**
     * The shared file of each item, and that file where it is there already. What is encrypted has a key of its own, so
     * nothing is shared where a message is, or may turn out to be. At once where memory knows all of them.
     */
    #sharing(
        { media = [], encrypted, sender }: RemoteMessage,
        uploader: string,
    ): readonly Sharing[] | Promise<readonly Sharing[]> {
        const { lookup, hasCrypto } = this.#parts;
        const mayShare = encrypted === false || (encrypted !== true && !hasCrypto(sender));
        const known = media.map(({ dedupeKey, transformVersion }): Sharing => {
            if (dedupeKey === undefined || !mayShare) return {};
            const dedupe = sharedKeyOf(uploader, dedupeKey, transformVersion);
            return { dedupe, file: lookup.atHand(dedupe) };
        });
        if (known.every(({ dedupe, file }) => dedupe === undefined || file !== undefined)) return known;
        return Promise.all(
            known.map(
                async ({ dedupe, file }): Promise<Sharing> => ({
                    dedupe,
                    file: dedupe === undefined ? undefined : (file ?? (await lookup.uploaded(dedupe))),
                }),
            ),
        );
    }

    /** The message's records; addresses at hand are taken in the same step, so that it then costs one request. */
    #prepare(
        message: RemoteMessage,
        { jobs, shared, noted, content }: Files,
        claims: Claim[],
        edits: string | undefined,
    ) {
        const { id, roomId, sender, timestamp, encrypted, eventType = "m.room.message" } = message;
        const record: MessageRecord = {
            id,
            roomId,
            sender,
            eventType,
            content: withUris(content, shared),
            timestamp,
            encrypted,
            hasCrypto: this.#parts.hasCrypto(sender) ? true : undefined,
            // Taken in the step in which it is handed over: what else joins the line meanwhile, an edit, has its own by then,
            // and the journal's order has to be the one in which the lane hears of them.
            sequence: this.#parts.nextSequence(),
            transactionId: transactionIdOf(message),
            fingerprint: fingerprintOf(message),
            state: "queued",
            jobs: jobs.map((job) => job.id),
            places: jobs.map(({ at = [] }) => at),
            ...(shared.length > 0 && { shared }),
            revisions: 0,
            edits,
        };
        const writes: Write[] = [messageWrite(record), outboxWrite(record), ...noted];
        if (edits !== undefined) writes.push({ collection: EDITED, key: edits, record: { content } });
        for (const job of jobs) {
            const claim = this.#parts.addresses.atHand(job);
            if (claim === undefined) {
                writes.push(...jobWrites(undefined, job));
                continue;
            }
            claims.push(claim);
            const { contentUri, expiresAt, presigned } = claim.address;
            const reserved = transition(job, { type: "reserve", contentUri, expiresAt, presigned }) ?? job;
            writes.push(...claim.writes, ...jobWrites(undefined, reserved));
        }
        return { record, writes };
    }

    async #keep(
        name: string,
        source: MediaSource,
        { sha256 }: Promised,
    ): Promise<{ source: SourceDescription; size?: number }> {
        if (source.kind !== "buffer" && source.kind !== "stream") return { source };
        const body = source.kind === "buffer" ? Readable.from([source.data]) : source.stream;
        addAbortSignal(this.#parts.closing, body);
        // Errors reach whoever reads; before the reading begins nobody else would listen.
        body.on("error", () => {});
        const unlimited = { size: undefined, maxBytes: Number.POSITIVE_INFINITY };
        // Bytes that are wrong now stay wrong: whoever hands them over hears of it.
        const bytes = counted(body as AsyncIterable<Uint8Array>, unlimited, { sha256 }, { explain: asMediaError });
        const size = await this.#parts.spool.write(name, sha256 === undefined ? body : bytes);
        return { source: { kind: "spool", name }, size };
    }
}
