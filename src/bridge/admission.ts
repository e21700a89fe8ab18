import { randomUUID } from "node:crypto";
import { addAbortSignal, Readable } from "node:stream";
import { asMediaError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import type { Store, Write } from "../store/store.ts";
import { counted, type Promised } from "../uploads/counted.ts";
import { type Job, jobWrites, transition } from "../uploads/job.ts";
import type { SourceDescription } from "../uploads/sources/source.ts";
import type { Spool } from "../uploads/sources/spool.ts";
import { describedFile } from "./event-content.ts";
import { withFinding } from "./finding.ts";
import type { MediaSource, RemoteMessage } from "./message.ts";
import type { Probe } from "./probe.ts";
import {
    EDITED,
    fingerprintOf,
    loadMessage,
    type MessageRecord,
    messageWrite,
    outboxWrite,
    transactionIdOf,
} from "./records.ts";
import { type Reservation, type Reservations, takenWrite } from "./reservations.ts";

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
    readonly reservations: Reservations;
    readonly probe: Probe;
    readonly logger: Logger;
    /** Aborts when the component closes: a stream that is being spooled is then let go. */
    readonly closing: AbortSignal;
    readonly nextSequence: () => string;
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
    "uploader" | "backfill" | "messageId" | "roomId" | "at" | "mimetype" | "size" | "filename" | "publicUrl" | "sha256"
>;

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
        const sequence = this.#parts.nextSequence();
        const before = this.#turns.get(roomId);
        const turn = deferred();
        this.#turns.set(roomId, turn.promise);
        const passOn = (): void => {
            if (this.#turns.get(roomId) === turn.promise) this.#turns.delete(roomId);
            turn.resolve();
        };
        const taken: Reservation[] = [];
        let jobs: Job[] = [];
        try {
            const known = await loadMessage(this.#parts.store, message.id);
            if (known !== undefined) return this.#repeated(known, message);
            stillRoom();
            let content = message.content;
            ({ jobs, content } = await this.#jobsFor(message));
            await before;
            const { record, writes } = this.#prepare(message, content, sequence, jobs, taken, edits);
            const committed = this.#parts.store.commit(writes);
            passOn();
            await committed;
            return { message: record, isNew: true, jobs };
        } catch (error) {
            for (const reservation of taken) this.#parts.reservations.giveBack(reservation);
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

    /** The message's jobs, and its content with what a probe has found. */
    async #jobsFor(message: RemoteMessage): Promise<{ jobs: Job[]; content: RemoteMessage["content"] }> {
        const { media = [], eventType = "m.room.message" } = message;
        const jobs: Job[] = [];
        const probes = await this.#parts.probe.all(media);
        let { content } = message;
        try {
            for (const [index, { at, source, probeHeaders, ...given }] of media.entries()) {
                const probed = probes[index];
                if (probeHeaders === true)
                    content = withFinding(content, eventType, at, { ...probed?.found, ...given });
                const known = {
                    ...describedFile(content, at),
                    ...given,
                    uploader: this.#parts.uploaderOf(message.sender),
                    backfill: message.backfill ?? false,
                    messageId: message.id,
                    roomId: message.roomId,
                    at,
                };
                const job = await this.newJob(probed?.source ?? source, known);
                jobs.push(job);
                probed?.keepFor(job.id);
            }
            return { jobs, content };
        } catch (error) {
            for (const probed of probes.slice(jobs.length)) probed?.letGo();
            await this.discard(jobs);
            throw error;
        }
    }

    /** The message's records; addresses at hand are taken in the same step, so that it then costs one request. */
    #prepare(
        message: RemoteMessage,
        content: RemoteMessage["content"],
        sequence: string,
        jobs: readonly Job[],
        taken: Reservation[],
        edits: string | undefined,
    ) {
        const { id, roomId, sender, timestamp, encrypted, eventType = "m.room.message" } = message;
        const record: MessageRecord = {
            id,
            roomId,
            sender,
            eventType,
            content,
            timestamp,
            encrypted,
            hasCrypto: this.#parts.hasCrypto(sender) ? true : undefined,
            sequence,
            transactionId: transactionIdOf(message),
            fingerprint: fingerprintOf(message),
            state: "queued",
            jobs: jobs.map((job) => job.id),
            places: message.media?.map(({ at }) => at),
            revisions: 0,
            edits,
        };
        const writes: Write[] = [messageWrite(record), outboxWrite(record)];
        if (edits !== undefined) writes.push({ collection: EDITED, key: edits, record: { content } });
        for (const job of jobs) {
            const reservation = this.#parts.reservations.takeWarm(job.uploader);
            if (reservation === undefined) {
                writes.push(...jobWrites(undefined, job));
                continue;
            }
            taken.push(reservation);
            const { contentUri, expiresAt, presigned } = reservation;
            const reserved = transition(job, { type: "reserve", contentUri, expiresAt, presigned }) ?? job;
            writes.push(takenWrite(reservation), ...jobWrites(undefined, reserved));
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

function deferred() {
    let resolve: () => void = () => {};
    const promise = new Promise<void>((settle) => {
        resolve = settle;
    });
    return { promise, resolve };
}
