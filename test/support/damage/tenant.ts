import { cp } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { BridgeMedia, type BridgeMediaOptions, type MediaItem, type RemoteMessage } from "../../../src/index.ts";
import { standInCrypto, withCrypto } from "../crypto.ts";
import { copyImage } from "../image.ts";
import type { Remote } from "../remote.ts";
import { until } from "../until.ts";
import type { World } from "../world.ts";
import { fileOf } from "./files.ts";

/**
 * One bridge among several on the same homeserver, with rooms, ghosts and a journal of its own, whose work it can bring
 * into every state and leave there.
 */
export interface Tenant {
    readonly name: string;
    readonly dataDir: string;
    readonly plainRooms: readonly string[];
    readonly encryptedRoom: string;
    /** In the order in which they were said. */
    readonly said: readonly Said[];
    component(dataDir?: string, options?: Partial<BridgeMediaOptions>): BridgeMedia;
    /** Says everything and leaves the journal, with work in every state, as `kill -9` would; an earlier copy beside it. */
    bringAbout(): Promise<{ journal: string; earlier: string }>;
    /** Lets everything through that was held. */
    release(): void;
    say(media: BridgeMedia, said: Said): Promise<unknown>;
}

export interface Said {
    /** What the event begins with, whatever becomes of its file. */
    readonly label: string;
    readonly roomId: string;
    readonly encrypted: boolean;
    readonly kind: Kind;
}

type Kind = "text" | "http" | "held" | "failing" | "buffer" | "missing" | "sticker" | "new sticker";

const BEFORE: readonly Kind[] = ["text", "http", "buffer", "missing", "sticker", "text"];
/** In the first room events get out and files do not; in the second not even events. */
const FIRST: readonly Kind[] = [
    "text",
    "http",
    "http",
    "failing",
    "failing",
    "new sticker",
    "new sticker",
    "held",
    "buffer",
];
const THEN: readonly Kind[] = ["http", "http", "sticker", "text"];
const SECOND: readonly Kind[] = ["text", "http", "buffer", "sticker", "new sticker", "http", "text"];
const ENCRYPTED_BEFORE: readonly Kind[] = ["http", "text"];
const ENCRYPTED_FIRST: readonly Kind[] = ["http", "buffer"];
const ENCRYPTED_STUCK: readonly Kind[] = ["http", "text"];

/** In the name of the ghosts whose files go past the homeserver, to a presigned address. */
export const PRESIGNED = "presigned";

const HOUR = 3_600_000;

export async function openTenant(name: string, world: World, remote: Remote, dataDir: string): Promise<Tenant> {
    const ghosts = [world.ghost(`${name}a`), world.ghost(`${name}${PRESIGNED}`)];
    const room = () => world.room(...ghosts);
    const [first, second, encryptedRoom] = await Promise.all([room(), room(), room()]);
    const crypto = standInCrypto(encryptedRoom);
    const bridge = withCrypto(world.bridge, () => crypto);
    const said: Said[] = [];
    const held = new Set<() => void>();
    let holding = false;
    let stuck: string[] = [];

    world.homeserver.intercept(({ method, path, user }) => {
        if (!holding || user === undefined || !ghosts.includes(user)) return undefined;
        const isSend = stuck.some((room) => path.includes(`${encodeURIComponent(room)}/send/`));
        // Not heard of again, for a homeserver that cannot be reached is left alone by all transfers.
        if (path.endsWith("/complete")) return { delayMs: HOUR };
        const isUpload = path.includes("/upload/") && method === "PUT";
        return isSend || isUpload ? { drop: "before" } : undefined;
    });

    const serve = (file: string, kind: Kind): string => {
        const url = remote.on(`/${name}/${file}`, (_request: IncomingMessage, response: ServerResponse) => {
            const answer = (): void => {
                if (kind === "missing") return void response.writeHead(404).end();
                const bytes = fileOf(file);
                response
                    .writeHead(200, { "content-type": "application/octet-stream", "content-length": bytes.length })
                    .end(bytes);
            };
            if (!holding) return answer();
            if (kind === "failing") return void response.writeHead(503).end();
            if (kind === "held") return void held.add(answer);
            answer();
        });
        // An origin of its own: the others' is not to be left alone for its sake.
        return kind === "failing" ? url.replace("127.0.0.1", "localhost") : url;
    };

    const say = (media: BridgeMedia, { label, roomId, kind }: Said): Promise<unknown> => {
        const sender = ghosts[Number(label.slice(-2)) % 2] ?? "";
        const message = { id: `${name}/${label}`, roomId, sender };
        if (kind === "text") return media.send({ ...message, content: { msgtype: "m.text", body: label } });
        const file = fileNameOf(label, kind);
        const item: MediaItem =
            kind === "buffer"
                ? { at: ["url"], source: { kind: "buffer", data: fileOf(file) } }
                : { at: ["url"], source: { kind: "http", url: serve(file, kind) } };
        const shared = kind === "sticker" || kind === "new sticker" ? { dedupeKey: file } : {};
        return media.send({ ...message, ...fileContent(label), media: [{ ...item, ...shared }] });
    };

    const sayAll = (media: BridgeMedia, kinds: readonly Kind[], roomId: string): Promise<unknown>[] => {
        const letter = roomId === first ? "P1" : roomId === second ? "P2" : "E1";
        return kinds.map((kind) => {
            const count = said.filter((other) => other.roomId === roomId).length;
            const label = `${letter}.${String(count).padStart(2, "0")}`;
            const next = { label, roomId, kind, encrypted: roomId === encryptedRoom };
            said.push(next);
            return say(media, next);
        });
    };

    const component = (dir = dataDir, options: Partial<BridgeMediaOptions> = {}): BridgeMedia =>
        new BridgeMedia(bridge, { dataDir: dir, allowPrivateAddresses: true, concurrency: 2, ...options });

    return {
        name,
        dataDir,
        plainRooms: [first, second],
        encryptedRoom,
        said,
        component,
        say,
        async bringAbout() {
            const before = component();
            await before.start();
            await Promise.all([
                ...sayAll(before, BEFORE, first),
                ...sayAll(before, BEFORE, second),
                ...sayAll(before, ENCRYPTED_BEFORE, encryptedRoom),
            ]);
            await until(() => isQuiet(before), { what: `${name} is quiet`, limitMs: 60_000 });
            await before.close();
            const earlier = `${dataDir}.earlier`;
            await cp(join(dataDir, "journal"), earlier, { recursive: true });

            [holding, stuck] = [true, [second]];
            // Places enough for those that wait for an answer.
            const media = component(dataDir, { concurrency: 6 });
            await media.start();
            await Promise.all([...sayAll(media, FIRST, first), ...sayAll(media, ENCRYPTED_FIRST, encryptedRoom)]);
            // What is in the storage cannot be told to the homeserver.
            const hasStarted = async () => {
                const states = await statesOf(media);
                return ["transferring", "completing"].every((state) => states.includes(state)) && held.size > 0;
            };
            await until(hasStarted, { what: `${name} transfers`, limitMs: 60_000 });
            await Promise.all(sayAll(media, THEN, first));
            stuck = [second, encryptedRoom];
            const pending = [...sayAll(media, SECOND, second), ...sayAll(media, ENCRYPTED_STUCK, encryptedRoom)];
            for (const sending of pending) sending.catch(() => {});
            const isStuck = () =>
                [second, encryptedRoom].every((room) =>
                    world.homeserver.requests.some(
                        ({ path, status }) => status === 0 && path.includes(`${encodeURIComponent(room)}/send/m.room.`),
                    ),
                );
            await until(isStuck, { what: `${name}'s rooms are stuck`, limitMs: 180_000 });
            const journal = `${dataDir}.killed`;
            await copyImage(dataDir, journal);
            await media.close();
            return { journal, earlier };
        },
        release() {
            holding = false;
            for (const answer of held) answer();
            held.clear();
        },
    };
}

export function fileNameOf(label: string, kind: Kind): string {
    if (kind === "sticker") return "sticker";
    return kind === "new sticker" ? "new-sticker" : label;
}

function fileContent(label: string): Pick<RemoteMessage, "content"> {
    return { content: { msgtype: "m.file", body: label, info: { mimetype: "application/octet-stream" } } };
}

export async function statesOf(media: BridgeMedia): Promise<string[]> {
    const states: string[] = [];
    for await (const { state } of media.jobs()) states.push(state);
    return states;
}

export async function isQuiet(media: BridgeMedia): Promise<boolean> {
    return (await statesOf(media)).every((state) => ["done", "failed", "cancelled", "replaced"].includes(state));
}
