import { expect } from "chai";
import type { BridgeMedia, JobInfo, RemoteMessage } from "../../src/index.ts";
import type { PresignedMedia } from "../../src/dev/homeserver/index.ts";
import { download, messages } from "./download.ts";
import { photoMessage } from "./messages.ts";
import { sha256 } from "./remote.ts";
import { closeScene, openScene, type Scene } from "./scene.ts";
import { type S3, Storage } from "./storage.ts";

/** A scene whose homeserver wants its files in an S3. */
export interface PresignedScene extends Scene {
    readonly storage: Storage;
    /** Requests to the homeserver that tell or upload, by status: `complete 200`, `upload 404`. */
    outcomes(): string[];
    /** Sends a photo with these bytes; resolves when its file has ended. */
    photo(media: BridgeMedia, bytes: Buffer, extra?: Partial<RemoteMessage>): Promise<SentPhoto>;
    /** Downloads what the event points at, and expects it to be these bytes. */
    expectContent(photo: SentPhoto, bytes: Buffer): Promise<void>;
    close(): Promise<void>;
}

export interface SentPhoto {
    readonly url: string;
    readonly mxc: string;
    readonly job: JobInfo;
}

export async function openPresignedScene(
    startS3: () => Promise<S3>,
    presigned: (storage: Storage) => Partial<PresignedMedia> = () => ({}),
    options: Parameters<typeof openScene>[0] = {},
): Promise<PresignedScene> {
    const storage = await Storage.open(await startS3());
    const scene = await openScene({ ...options, presigned: storage.media(presigned(storage)) });
    const { world, remote, alice, roomId } = scene;
    return {
        ...scene,
        storage,
        outcomes: () =>
            world.homeserver.requests
                .filter(({ path }) => path.includes("/upload/"))
                .map(({ path, status }) => `${path.endsWith("/complete") ? "complete" : "upload"} ${status}`),
        async photo(media, bytes, extra) {
            const url = remote.file(bytes);
            const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url }, extra));
            const job = await sent.uploads[0]?.done;
            if (job === undefined) throw new Error("no upload");
            const event = messages(world.homeserver, roomId).find(({ event_id }) => event_id === sent.eventId);
            return { url, mxc: String(event?.content["url"]), job };
        },
        async expectContent({ mxc }, bytes) {
            const { status, body } = await download(world.homeserver, mxc, 0);
            expect(status).to.equal(200);
            expect(sha256(body)).to.equal(sha256(bytes));
        },
        async close() {
            await closeScene(scene);
            await storage.close();
        },
    };
}

/** How often the remote network was asked for a file. */
export function gets({ remote }: PresignedScene, url: string): number {
    return remote.requests.filter((request) => request.url === new URL(url).pathname).length;
}
