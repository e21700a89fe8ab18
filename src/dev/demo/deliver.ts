import type { BridgeMedia } from "../../index.ts";
import { delivered, type RemoteMessage } from "../network/remote-message.ts";
import { reasonOf } from "./failure.ts";
import type { Home } from "./home.ts";
import { outgoing } from "./outgoing.ts";
import type { BridgedRoom } from "./rooms.ts";

/** What became of one remote message. */
export interface Delivery {
    readonly message: RemoteMessage;
    /** From the call of `send()` until the event was accepted; undefined for a message that was there before. */
    readonly sendMs?: number | undefined;
    /** Why `send()` rejected. */
    readonly error?: string;
    /** One for each file; they never reject. Undefined is success, else the reason. */
    readonly uploads: readonly Promise<string | undefined>[];
}

export interface DeliverContext {
    readonly media: BridgeMedia;
    readonly home: Home;
    readonly signal: AbortSignal;
    /** Called after each message. */
    readonly onDelivery: (delivery: Delivery, room: BridgedRoom) => void;
}

/** Passes on what the network delivers, and ends when every message of the room is accepted. */
export async function deliverRoom(room: BridgedRoom, context: DeliverContext): Promise<Delivery[]> {
    const { signal, onDelivery } = context;
    const sending: Promise<Delivery>[] = [];
    const pauseAfter = ({ id }: RemoteMessage): number => (room.before.has(id) ? 0 : (room.pauseMs ?? 0));
    for await (const message of delivered(room.messages, { pauseAfter, signal })) {
        const delivery = deliver(message, room, context);
        sending.push(delivery);
        void delivery.then((delivery) => onDelivery(delivery, room));
        if (room.pauseMs === undefined) await delivery;
    }
    return Promise.all(sending);
}

async function deliver(message: RemoteMessage, room: BridgedRoom, { media, home }: DeliverContext): Promise<Delivery> {
    const request = outgoing(message, { roomId: room.roomId, sender: home.ghost(message.sender) });
    const startedAt = performance.now();
    try {
        const { uploads } = await media.send(request);
        return {
            message,
            sendMs: room.before.has(message.id) ? undefined : performance.now() - startedAt,
            uploads: uploads.map(({ done }) => outcome(done)),
        };
    } catch (error) {
        return { message, error: reasonOf(error), uploads: [] };
    }
}

async function outcome(done: Promise<unknown>): Promise<string | undefined> {
    try {
        await done;
        return undefined;
    } catch (error) {
        return reasonOf(error);
    }
}
