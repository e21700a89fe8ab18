import type { Conversation, RemoteMessage } from "../network/remote-message.ts";
import type { DemoBridge } from "./bridge.ts";
import type { Home } from "./home.ts";
import { textOf } from "./json.ts";
import { MatrixApi } from "./matrix-api.ts";
import type { StateFile } from "./state.ts";
import { Timeline } from "./timeline.ts";

/** A conversation and the Matrix room it is bridged into. */
export interface BridgedRoom {
    readonly title: string;
    readonly roomId: string;
    /** In the order in which they are given to `send()`: that of the first start, with what is new at the end. */
    readonly messages: readonly RemoteMessage[];
    readonly pauseMs: number | undefined;
    readonly timeline: Timeline;
    /** Ids of the messages that stood in the room before this start. */
    readonly before: ReadonlySet<string>;
}

export interface RoomsContext {
    readonly home: Home;
    readonly bridge: DemoBridge;
    readonly state: StateFile;
    /** Somebody to be invited besides. */
    readonly invite?: string | undefined;
}

/** The conversation's room: the one of an earlier start, or a new one. */
export async function openRoom(conversation: Conversation, context: RoomsContext): Promise<BridgedRoom> {
    const { home, state } = context;
    const saved = state.state.rooms[conversation.id];
    const roomId = saved?.roomId ?? (await createRoom(conversation, context));
    const reader = new MatrixApi(home.url, home.reader.accessToken);
    await reader.request("POST", `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/join`, { body: {} });

    const messages = inFirstOrder(conversation.messages, saved?.order ?? []);
    await state.setRoom(conversation.id, { roomId, order: messages.map(({ id }) => id) });
    const timeline = new Timeline(reader, roomId);
    const { added } = await timeline.catchUp();
    const before = new Set(added.map(({ remoteId }) => remoteId));
    return { title: conversation.title, pauseMs: conversation.pauseMs, roomId, messages, timeline, before };
}

/** A new room with its ghosts in it: bridges bring the members in first, so that nobody's first message waits for that. */
async function createRoom({ title, messages }: Conversation, { home, bridge, invite }: RoomsContext): Promise<string> {
    await bridge.getIntent().ensureRegistered();
    const others = [home.reader.userId, invite].filter((userId) => userId !== undefined && userId !== home.bot);
    const body = { preset: "private_chat", name: title, topic: "Bridged from the sample network", invite: others };
    const { room_id: roomId } = await new MatrixApi(home.url, home.asToken).request(
        "POST",
        "/_matrix/client/v3/createRoom",
        { body },
    );
    for (const name of new Set(messages.map(({ sender }) => sender))) {
        await bridge.getIntent(home.ghost(name)).join(textOf(roomId));
    }
    return textOf(roomId);
}

function inFirstOrder(messages: readonly RemoteMessage[], order: readonly string[]): RemoteMessage[] {
    const place = new Map(order.map((id, index) => [id, index]));
    const placeOf = ({ id }: RemoteMessage): number => place.get(id) ?? order.length;
    // Sorting is stable: new messages keep their own order.
    return messages.toSorted((a, b) => placeOf(a) - placeOf(b));
}
