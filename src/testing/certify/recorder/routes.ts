import { GHOSTS, isEncryptedRoom } from "../messages.ts";
import type { Random } from "../random.ts";
import { type Answer, type Media, OK, refusal } from "./media.ts";
import type { Kind } from "./moments.ts";
import type { Network } from "./network.ts";
import type { Profiles } from "./profiles.ts";
import type { Content, Rooms } from "./rooms.ts";
import type { Storage } from "./storage.ts";

/** What the recorder answers: only what the component asks is there. */

export interface Asked {
    readonly path: readonly string[];
    readonly query: URLSearchParams;
    readonly user: string;
    readonly body: Buffer;
}

export interface Route {
    readonly kind: Kind;
    readonly method: string;
    readonly path: RegExp;
    readonly handle: (asked: Asked) => Answer | Buffer | Promise<Answer>;
}

export interface Recorded {
    readonly rooms: Rooms;
    readonly media: Media;
    readonly profiles: Profiles;
    readonly network: Network;
    readonly storage: Storage;
    readonly random: Random;
}

const FORGOTTEN_ADDRESSES = 8;
/** Where the storage has the object of an address. */
export const keyOf = (id: string): string => `media/${id}`;

export function routes({ rooms, media, profiles, network, storage, random }: Recorded): readonly Route[] {
    const json = ({ body }: Asked): Content => JSON.parse(body.toString()) as Content;
    const to = (kind: Kind, method: string, path: RegExp, handle: Route["handle"]): Route => ({
        kind,
        method,
        path,
        handle,
    });
    const uploadUrl = (id: string): string => storage.uploadUrl(keyOf(id));
    return [
        to("create", "POST", /^\/_matrix\/media\/v1\/create$/, ({ user }) =>
            media.create(user, user === GHOSTS[1] ? uploadUrl : undefined, random.below(100) < FORGOTTEN_ADDRESSES),
        ),
        to("upload", "PUT", /^\/_matrix\/media\/v3\/upload\/[^/]+\/([^/]+)$/, ({ path: [id = ""], user, body }) =>
            media.fill(id, user, body),
        ),
        to("upload", "POST", /^\/_matrix\/media\/v3\/upload$/, ({ user, body }) => {
            const { content_uri } = media.create(user, undefined, false).body;
            media.fill(String(content_uri).split("/").at(-1) ?? "", user, body);
            return { status: 200, body: { content_uri } };
        }),
        to(
            "complete",
            "POST",
            /^\/_matrix\/media\/v1\/upload\/[^/]+\/([^/]+)\/complete$/,
            ({ path: [id = ""], user }) => media.complete(id, user, () => storage.content(keyOf(id))),
        ),
        to("send", "PUT", /^\/_matrix\/client\/v3\/rooms\/([^/]+)\/send\/([^/]+)\/([^/]+)$/, (asked) => {
            const [room_id = "", type = "", transactionId = ""] = asked.path;
            const event = { room_id, type, transactionId, sender: asked.user, content: json(asked) };
            return { status: 200, body: { event_id: rooms.accept(event) } };
        }),
        to("redact", "PUT", /^\/_matrix\/client\/v3\/rooms\/([^/]+)\/redact\/([^/]+)\/([^/]+)$/, (asked) => {
            const [room_id = "", redacts = "", transactionId = ""] = asked.path;
            const type = "m.room.redaction";
            const event = { room_id, type, transactionId, sender: asked.user, content: json(asked), redacts };
            return { status: 200, body: { event_id: rooms.accept(event) } };
        }),
        to(
            "look",
            "GET",
            /^\/_matrix\/client\/v3\/rooms\/([^/]+)\/messages$/,
            ({ path: [room = ""], user, query }) => ({
                status: 200,
                body: rooms.page(room, user, query),
            }),
        ),
        to("profile", "PUT", /^\/_matrix\/client\/v3\/profile\/([^/]+)\/avatar_url$/, (asked) => {
            if (asked.path[0] !== asked.user) return refusal(403, "M_FORBIDDEN");
            profiles.set(asked.user, String(json(asked)["avatar_url"]));
            return OK;
        }),
        to(
            "other",
            "GET",
            /^\/_matrix\/client\/v3\/rooms\/([^/]+)\/state\/m\.room\.encryption\/?$/,
            ({ path: [room = ""] }) => (isEncryptedRoom(room) ? OK : refusal(404, "M_NOT_FOUND")),
        ),
        to("other", "POST", /^\/_matrix\/client\/v3\/rooms\/[^/]+\/join$/, () => OK),
        to("other", "GET", /^\/_matrix\/client\/v1\/media\/config$/, () => ({
            status: 200,
            body: { "m.upload.size": 64 * 2 ** 20 },
        })),
        to("look", "GET", /^\/_matrix\/client\/v1\/media\/download\/[^/]+\/([^/]+)$/, ({ path: [id = ""] }) =>
            media.download(id),
        ),
        to("fetch", "GET", /^\/remote\/([^/]+)\/([^/]+)$/, ({ path: [kind = "", name = ""], query }) =>
            network.file(kind, name, query.get("link")),
        ),
        to("link", "GET", /^\/links\/[^/]+$/, () => network.newLink()),
    ];
}
