import { Attachment, EncryptedAttachment, initAsync } from "@matrix-org/matrix-sdk-crypto-wasm";
import type { Homeserver } from "../../src/dev/homeserver/index.ts";
import type { BridgeLike, CryptoLike, IntentLike } from "../../src/index.ts";

/** A stand-in for a bridge's Megolm, which would need devices; and the real thing for the files. */

export interface StandIn extends CryptoLike {
    /** What the bridge believes; the homeserver's state may know better. */
    readonly rooms: Set<string>;
    /** Thrown by the next calls, one each. */
    readonly failures: unknown[];
}

export function standInCrypto(...rooms: string[]): StandIn {
    const crypto: StandIn = {
        rooms: new Set(rooms),
        failures: [],
        isRoomEncrypted: async (roomId) => {
            if (crypto.failures.length > 0) throw crypto.failures.shift();
            return crypto.rooms.has(roomId);
        },
        encryptRoomEvent: async (room_id, type, content) => ({
            algorithm: "m.megolm.v1.aes-sha2",
            ciphertext: Buffer.from(JSON.stringify({ type, content, room_id })).toString("base64"),
        }),
    };
    return crypto;
}

/** The same bridge, its clients with `crypto()`, asked at each look. */
export function withCrypto(bridge: BridgeLike, crypto: () => CryptoLike | undefined): BridgeLike {
    return {
        getIntent(userId?: string): IntentLike {
            if (!("getIntent" in bridge)) throw new Error("not the tests' bridge");
            const intent = bridge.getIntent(userId);
            const { homeserverUrl = "", accessToken = "" } = intent.matrixClient ?? {};
            return { ...intent, matrixClient: { homeserverUrl, accessToken, crypto: crypto() } };
        },
    };
}

type Content = Record<string, unknown>;

/** What a member with the room's keys reads, edits applied, oldest first. */
export function readable(homeserver: Homeserver, roomId: string): { id: string; type: string; content: Content }[] {
    const shown: { id: string; type: string; content: Content }[] = [];
    for (const { event_id: id, type, content } of homeserver.events(roomId)) {
        if (type !== "m.room.encrypted") continue;
        const text = Buffer.from(String(content["ciphertext"]), "base64").toString();
        const clear = JSON.parse(text) as { type: string; content: Content };
        const relation = content["m.relates_to"] as { rel_type?: string; event_id?: string } | undefined;
        const edited = shown.find((event) => event.id === relation?.event_id);
        if (relation?.rel_type === "m.replace" && edited !== undefined)
            edited.content = clear.content["m.new_content"] as Content;
        else shown.push({ id, ...clear });
    }
    return shown;
}

/** Decrypts a file as matrix-rust-sdk does, hash and all. */
export async function decrypted(ciphertext: Uint8Array, file: unknown): Promise<Buffer> {
    await initAsync();
    return Buffer.from(Attachment.decrypt(new EncryptedAttachment(ciphertext, JSON.stringify(file))));
}
