/**
 * The three changes of docs/migrating.md as a program: each function is what the bridge looks like afterwards.
 * Takes the homeserver, the token, the room and the file from the environment.
 */
import { BridgeMedia, type BridgeLike } from "matrix-bridge-media";

interface Intent {
    readonly userId: string;
    sendMessage(roomId: string, content: object): Promise<unknown>;
}

interface RemoteFile {
    readonly id: string;
    readonly url: string;
    readonly token: string;
    readonly name: string;
    readonly mimetype: string;
    readonly size: number;
}

// slack style: download into memory, upload, then send
export async function slackStyle(media: BridgeMedia, intent: Intent, roomId: string, file: RemoteFile): Promise<void> {
    const { contentUri } = await media.upload(
        { kind: "http", url: file.url, headers: { authorization: `Bearer ${file.token}` } },
        { userId: intent.userId, mimetype: file.mimetype, size: file.size, filename: file.name },
    );
    await intent.sendMessage(roomId, {
        msgtype: "m.image",
        body: file.name,
        url: contentUri,
        info: { mimetype: file.mimetype, size: file.size },
    });
}

// discord style: one queue a channel, held up by every upload
export async function discordStyle(
    media: BridgeMedia,
    sender: string,
    roomId: string,
    file: RemoteFile,
): Promise<void> {
    await media.send({
        id: `discord/${file.id}`,
        roomId,
        sender,
        content: { msgtype: "m.file", body: file.name, info: { mimetype: file.mimetype, size: file.size } },
        media: [{ at: ["url"], source: { kind: "http", url: file.url } }],
    });
}

// bifrost style: nothing is awaited, so a slow file lands after later text
export function bifrostStyle(media: BridgeMedia, sender: string, roomId: string, file: RemoteFile): Promise<unknown>[] {
    const photo = media.send({
        id: `xmpp/${file.id}`,
        roomId,
        sender,
        content: { msgtype: "m.image", body: file.name, info: { mimetype: file.mimetype } },
        media: [{ at: ["url"], source: { kind: "http", url: file.url } }],
    });
    const text = media.send({
        id: `xmpp/${file.id}/text`,
        roomId,
        sender,
        content: { msgtype: "m.text", body: "What do you think?" },
    });
    return [photo, text];
}

const { HOMESERVER_URL = "", AS_TOKEN = "", ROOM_ID = "", PHOTO_URL = "", DATA_DIR = "", GHOST = "" } = process.env;

const intentOf = (userId: string) => ({
    userId,
    matrixClient: { homeserverUrl: HOMESERVER_URL, accessToken: AS_TOKEN },
    ensureRegistered: async () => {},
    join: async () => {},
    async sendMessage(roomId: string, content: object): Promise<unknown> {
        const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/send/m.room.message/${Date.now()}`;
        const answer = await fetch(`${HOMESERVER_URL}${path}?user_id=${encodeURIComponent(userId)}`, {
            method: "PUT",
            headers: { authorization: `Bearer ${AS_TOKEN}` },
            body: JSON.stringify(content),
        });
        return answer.json();
    },
});

const bridge: BridgeLike = { getIntent: (userId = GHOST) => intentOf(userId) };
const media = new BridgeMedia(bridge, { dataDir: DATA_DIR, allowPrivateAddresses: ["127.0.0.0/8"] });
await media.start();
const file = { id: "1", url: PHOTO_URL, token: "t", name: "cat.jpg", mimetype: "image/jpeg", size: 5000 };
await slackStyle(media, intentOf(GHOST), ROOM_ID, file);
await discordStyle(media, GHOST, ROOM_ID, { ...file, id: "2" });
await Promise.all(bifrostStyle(media, GHOST, ROOM_ID, { ...file, id: "3" }));
for await (const { state, contentUri } of media.jobs()) console.log(state, contentUri);
await media.close();
