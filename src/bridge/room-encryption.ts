import { setTimeout as sleep } from "node:timers/promises";
import { MediaError } from "../errors.ts";
import { unlessAborted } from "../linked-abort.ts";
import type { Logger } from "../logger.ts";
import { answerError, type JsonObject, mayBeAProxys } from "../matrix/answer.ts";
import type { ActingUser, ActingUsers, CryptoLike } from "../matrix/client.ts";
import { hasEncryptionState } from "../matrix/room-endpoints.ts";
import { thrownAnswer } from "../matrix/thrown-answer.ts";
import { Term } from "../uploads/steady-clock.ts";
import { asObject } from "./content-path.ts";
import { nextTryIn } from "./homeserver-requests.ts";
import { enterRoom, WAYS_INTO_A_ROOM } from "./membership.ts";
import type { MessageRecord } from "./records.ts";

/** The type of an event whose content nobody can read who has not its key. */
export const SEALED = "m.room.encrypted";

/**
 * Which events have to be encrypted, and their encryption by the bridge's own crypto.
 *
 * Whatever goes wrong, an event that has to be encrypted is never sent in the clear: what passes is tried again, a
 * crypto that keeps failing refuses the message in the end.
 */
export interface RoomEncryptionParts {
    readonly users: ActingUsers;
    readonly logger: Logger;
    /** Tries that a crypto which fails or is not prepared yet has, for each message. */
    readonly maxAttempts: number;
    readonly signal: AbortSignal;
}

/** What goes out in place of an event in the clear. */
export type SealedEvent = Pick<MessageRecord, "eventType" | "content">;

/** A redaction says nothing, and homeservers have to read what it redacts. */
export function isSealed({ encrypted, redacts }: MessageRecord): boolean {
    return encrypted === true && redacts === undefined;
}

/** A crypto that answers later than this is taken for one that failed. */
const CRYPTO_TIMEOUT_MS = 2 * 60_000;
/** How long a room's state, once seen to be without encryption, is not asked for again. */
const PLAIN_FRESH_MS = 5 * 60_000;
const MAX_PLAIN = 10_000;

export class RoomEncryption {
    readonly #parts: RoomEncryptionParts;
    readonly #plain = new Map<string, Term>();

    constructor(parts: RoomEncryptionParts) {
        this.#parts = parts;
    }

    /** Rejects with ENCRYPTION_UNAVAILABLE where it is due and cannot be had. */
    async isDue(message: MessageRecord, stop: AbortSignal): Promise<boolean> {
        if (message.encrypted === false || message.redacts !== undefined) return false;
        return this.#trying(message, stop, async (user) => {
            const crypto = user.crypto();
            if (crypto !== undefined) return message.encrypted === true || this.#detect(user, crypto, message.roomId);
            // After a restart a bridge sets up its ghosts' encryption little by little.
            if (message.hasCrypto === true) throw new MediaError("ENCRYPTION_FAILED", { detail: "not set up yet" });
            if (message.encrypted === true) throw new MediaError("ENCRYPTION_UNAVAILABLE");
            return false;
        });
    }

    /** The event that is sent in place of one in the clear. */
    async seal(message: MessageRecord, content: JsonObject, stop: AbortSignal): Promise<SealedEvent> {
        const { roomId, eventType } = message;
        return this.#trying(message, stop, async (user) => {
            const crypto = user.crypto();
            if (crypto === undefined) throw new MediaError("ENCRYPTION_FAILED", { detail: "not set up" });
            // The client's own to change; records are not.
            const own = structuredClone(content);
            const sealed = asObject(await this.#bounded(crypto.encryptRoomEvent(roomId, eventType, own)));
            if (typeof sealed["algorithm"] !== "string")
                throw new MediaError("ENCRYPTION_FAILED", { detail: "gave no encrypted content" });
            // Clients and homeservers need the relation of an edit or a reply in the clear: spec, "m.room.encrypted".
            const relation = content["m.relates_to"];
            return {
                eventType: SEALED,
                content: relation === undefined ? sealed : { ...sealed, "m.relates_to": relation },
            };
        });
    }

    /**
     * matrix-bot-sdk says "not encrypted" also where it could not ask, such as for a ghost that is not in the room yet.
     * So its no is believed only together with the room's own state.
     */
    async #detect(user: ActingUser, crypto: CryptoLike, roomId: string): Promise<boolean> {
        if (await this.#bounded(crypto.isRoomEncrypted(roomId))) return true;
        if (this.#plain.get(roomId)?.isOver === false) return false;
        const found = await hasEncryptionState(user.access(), roomId, this.#parts.signal);
        if (this.#plain.size >= MAX_PLAIN) this.#plain.clear();
        if (!found) this.#plain.set(roomId, new Term(PLAIN_FRESH_MS));
        return found;
    }

    async #trying<T>(message: MessageRecord, stop: AbortSignal, action: (user: ActingUser) => Promise<T>): Promise<T> {
        const { users, logger, maxAttempts, signal } = this.#parts;
        let failures = 0;
        let refusals = 0;
        let way = 0;
        for (let attempt = 0; ; attempt++) {
            try {
                return await action(users.get(message.sender));
            } catch (thrown) {
                stop.throwIfAborted();
                let error = cryptoError(thrown);
                if (error.code === "FORBIDDEN" && !mayBeAProxys(error) && way < WAYS_INTO_A_ROOM) {
                    const barred = await enterRoom(users, message, way, logger, signal);
                    if (barred === undefined) {
                        way++;
                        continue;
                    }
                    error = barred;
                }
                const delay = nextTryIn(error, attempt, refusals);
                if (delay === undefined) throw error;
                if (!error.retryable) refusals++;
                if (error.code === "ENCRYPTION_FAILED" && ++failures >= maxAttempts)
                    throw new MediaError("ENCRYPTION_UNAVAILABLE", { cause: error });
                logger.warn("A message could not be encrypted and will be tried again", {
                    id: message.id,
                    roomId: message.roomId,
                    code: error.code,
                    delay,
                });
                await sleep(delay, undefined, { signal: stop }).catch(() => {});
                stop.throwIfAborted();
            }
        }
    }

    /** A crypto that never answers must not hold its room up for ever. */
    #bounded<T>(answer: Promise<T>): Promise<T> {
        const reason = () => new MediaError("ENCRYPTION_FAILED", { detail: "no answer in time" });
        return unlessAborted(answer, [this.#parts.signal], { ms: CRYPTO_TIMEOUT_MS, reason });
    }
}

/** What a crypto threw: the homeserver's answers are known by their fields, anything else is the crypto's own trouble. */
function cryptoError(cause: unknown): MediaError {
    if (cause instanceof MediaError) return cause;
    const answer = thrownAnswer(cause);
    if (answer !== undefined && answer.status >= 400)
        return answerError(answer, { tooLarge: "ENCRYPTION_FAILED", refused: "ENCRYPTION_FAILED" });
    return new MediaError("ENCRYPTION_FAILED", { cause });
}
