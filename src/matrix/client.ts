import { MediaError } from "../errors.ts";
import { answerError, EVENT_REFUSALS } from "./answer.ts";
import { thrownAnswer } from "./thrown-answer.ts";

/**
 * The shapes of the SDKs' objects that this package touches, and nothing more. matrix-appservice-bridge,
 * matrix-bot-sdk and its vector-im fork all fit; nothing of theirs is imported and nothing is tested with
 * `instanceof`, because a bridge may have several copies of an SDK.
 */

/** A client's end-to-end encryption: matrix-bot-sdk's `CryptoClient`. */
export interface CryptoLike {
    isRoomEncrypted(roomId: string): Promise<boolean>;
    /** Gives the content of an `m.room.encrypted` event, once the room's devices have been sent its key. */
    encryptRoomEvent(roomId: string, eventType: string, content: unknown): Promise<object>;
}

/** A Matrix client of any SDK. The fields are read at each call: encrypted intents change their token. */
export interface ClientLike {
    readonly homeserverUrl: string;
    readonly accessToken: string;
    /** Undefined where the bridge has no encryption for this user. */
    readonly crypto?: CryptoLike | undefined;
}

/** An intent of matrix-appservice-bridge (`matrixClient`, `join`) or of matrix-bot-sdk (`underlyingClient`). */
export interface IntentLike {
    readonly userId: string;
    /** What it throws, and the ways into a room below, is read as docs/embedding.md says. */
    ensureRegistered(): Promise<unknown>;
    readonly matrixClient?: ClientLike;
    readonly underlyingClient?: ClientLike;
    /** matrix-appservice-bridge: registers, joins, and has the bot invite the ghost where it must. */
    join?(roomId: string): Promise<unknown>;
    /** matrix-bot-sdk. */
    ensureRegisteredAndJoined?(roomId: string): Promise<unknown>;
}

/**
 * What `new BridgeMedia()` takes: matrix-appservice-bridge's `Bridge` (`getIntent(userId)`), or matrix-bot-sdk's
 * `Appservice` (`getIntentForUserId`; its own `getIntent` takes a localpart and is not used).
 */
export type BridgeLike =
    | { getIntent(userId?: string): IntentLike }
    | { getIntentForUserId(userId: string): IntentLike; readonly botIntent: IntentLike };

/** How to reach the homeserver as one user. */
export interface Access {
    readonly homeserverUrl: string;
    readonly accessToken: string;
    readonly userId: string;
}

/** One Matrix user that the appservice may act as. */
export interface ActingUser {
    readonly userId: string;
    /** Read anew at every request, never kept. */
    access(): Access;
    /** Read anew at every call, never kept: an intent gets its encryption only when the bridge has set it up. */
    crypto(): CryptoLike | undefined;
    ensureRegistered(): Promise<void>;
    /** The SDK's own way into a room. Rejects with a MediaError where the homeserver answered, else with what the SDK threw. */
    join(roomId: string): Promise<void>;
}

/** Finds acting users in whatever bridge object the embedder has. */
export class ActingUsers {
    readonly #bridge: BridgeLike;

    constructor(bridge: BridgeLike) {
        if (
            typeof bridge !== "object" ||
            bridge === null ||
            !("getIntent" in bridge || "getIntentForUserId" in bridge)
        ) {
            throw new MediaError("INVALID_ARGUMENT", {
                field: "bridge",
                detail: "needs getIntent(userId) or getIntentForUserId(userId)",
            });
        }
        this.#bridge = bridge;
    }

    /** Throws BRIDGE_NOT_READY where the bridge does: matrix-appservice-bridge's does so before `initialise()`. */
    get(userId: string): ActingUser {
        const bridge = this.#bridge;
        try {
            const intent =
                "getIntentForUserId" in bridge ? bridge.getIntentForUserId(userId) : bridge.getIntent(userId);
            return actingUser(intent, userId);
        } catch (cause) {
            throw new MediaError("BRIDGE_NOT_READY", { cause, detail: userId });
        }
    }

    /** Whether this user's client has encryption now. */
    hasCrypto(userId: string): boolean {
        try {
            return this.get(userId).crypto() !== undefined;
        } catch {
            return false;
        }
    }

    /** The appservice's own user; undefined for a bridge object that has none at hand. */
    bot(): ActingUser | undefined {
        const bridge = this.#bridge;
        try {
            const intent = "getIntentForUserId" in bridge ? bridge.botIntent : bridge.getIntent();
            return intent === undefined ? undefined : actingUser(intent, intent.userId);
        } catch {
            // A bridge of the embedder's own making need not have a bot.
            return undefined;
        }
    }
}

function actingUser(intent: IntentLike, wanted: string): ActingUser {
    // matrix-appservice-bridge escapes user ids, so the intent's own is the one the homeserver knows.
    const userId = intent.userId ?? wanted;
    return {
        userId,
        access() {
            const client = intent.matrixClient ?? intent.underlyingClient;
            if (client === undefined) {
                throw new MediaError("INVALID_ARGUMENT", {
                    field: "bridge",
                    detail: "its intents have neither matrixClient nor underlyingClient",
                });
            }
            return { homeserverUrl: client.homeserverUrl, accessToken: client.accessToken, userId };
        },
        crypto() {
            const { crypto } = intent.matrixClient ?? intent.underlyingClient ?? {};
            const isUsable =
                typeof crypto?.isRoomEncrypted === "function" && typeof crypto.encryptRoomEvent === "function";
            return isUsable ? crypto : undefined;
        },
        async ensureRegistered() {
            await intent.ensureRegistered().catch((thrown: unknown) => {
                if (thrownAnswer(thrown)?.body["errcode"] !== "M_USER_IN_USE") sdkError(thrown);
            });
        },
        async join(roomId) {
            try {
                if (intent.ensureRegisteredAndJoined !== undefined) await intent.ensureRegisteredAndJoined(roomId);
                else if (intent.join !== undefined) await intent.join(roomId);
            } catch (thrown) {
                // matrix-appservice-bridge says "Failed to join room" whatever it was, so that is none that passes.
                if (thrownAnswer(thrown) === undefined) throw thrown;
                sdkError(thrown);
            }
        },
    };
}

/** What an SDK threw. An answer is no cause of the error: matrix-bot-sdk throws one that is no Matrix error as a whole, with the request and its token. */
function sdkError(cause: unknown): never {
    if (cause instanceof MediaError) throw cause;
    const answer = thrownAnswer(cause);
    if (answer === undefined) throw new MediaError("HOMESERVER_FAILING", { cause });
    throw answerError(answer, { ...EVENT_REFUSALS, refused: "FORBIDDEN" });
}
