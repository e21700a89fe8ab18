import type { Logger } from "../logger.ts";
import type { RightOfWay } from "../right-of-way.ts";
import type { Store, Write } from "../store/store.ts";
import type { Job } from "../uploads/job.ts";
import type { KeyedLocks } from "../uploads/keyed-locks.ts";
import { transition } from "../uploads/transition.ts";
import { jobWrites } from "../uploads/job-records.ts";
import type { Addresses, Claim } from "./dedupe/addresses.ts";
import { foreignId } from "./edits.ts";
import { deferred } from "../deferred.ts";
import { withUris } from "./event-content.ts";
import type { RemoteMessage } from "./message.ts";
import type { Files, MessageFiles } from "./message-files.ts";
import {
    editedWrite,
    fingerprintOf,
    isEdit,
    loadMessage,
    type MessageRecord,
    messageWrite,
    outboxWrite,
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
    readonly files: MessageFiles;
    readonly addresses: Addresses;
    readonly logger: Logger;
    readonly way: RightOfWay;
    /** Held by whoever changes a message's record, from reading it until the change is journaled. */
    readonly messageLocks: KeyedLocks;
    readonly nextSequence: () => string;
    /** Told when a message was handed to the store, in the order of the room's line. */
    readonly onHandedOver: (message: MessageRecord, committed: Promise<void>) => void;
}

export interface Admitted {
    readonly message: MessageRecord;
    /** False when an earlier call had journaled it. */
    readonly isNew: boolean;
    /** The jobs that came with it. */
    readonly jobs: readonly Job[];
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
            if (known !== undefined) return this.#repeated(known, message, edits);
            stillRoom();
            const files = await this.#parts.files.of(message);
            ({ jobs } = files);
            await before;
            const handOver = async (): Promise<MessageRecord> => {
                const { record, writes } = this.#prepare(message, files, claims, edits);
                const committed = this.#parts.store.commit(writes);
                this.#parts.onHandedOver(record, committed);
                passOn();
                await this.#parts.way.first(() => committed);
                return record;
            };
            // A notice or another address that is worked out meanwhile stands before the edit, or says what it says.
            const { messageLocks } = this.#parts;
            const record = await (edits === undefined ? handOver() : messageLocks.hold([edits], handOver));
            for (const claim of claims) claim.confirm();
            return { message: record, isNew: true, jobs };
        } catch (error) {
            for (const claim of claims) claim.undo();
            await this.#parts.files.discard(jobs);
            throw error;
        } finally {
            // Who ends sooner than those before it (its id is known, there is no room) does not let others pass them.
            if (before === undefined) passOn();
            else void before.then(passOn);
        }
    }

    /** Warns when a message, or an edit of `edits`, that came again is not what it was. */
    compare({ id, fingerprint }: MessageRecord, again: string, edits: string | undefined): void {
        if (fingerprint === again) return;
        const call = edits === undefined ? "send()" : "edit()";
        const text = `${call} was called again with a known id but another content: the first one stands`;
        this.#parts.logger.warn(text, { id });
    }

    #repeated(known: MessageRecord, message: RemoteMessage, edits: string | undefined): Admitted {
        if (edits !== undefined && known.edits !== edits) throw foreignId(message.id);
        this.compare(known, fingerprintOf(message), edits);
        return { message: known, isNew: false, jobs: [] };
    }

    /** The message's records; addresses at hand are taken in the same step, so that it then costs one request. */
    #prepare(
        message: RemoteMessage,
        { jobs, shared, useWrites, content, hasCrypto }: Files,
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
            hasCrypto: hasCrypto ? true : undefined,
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
        const writes: Write[] = [messageWrite(record), outboxWrite(record), ...useWrites()];
        if (isEdit(record)) writes.push(editedWrite(record));
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
}
