import { join } from "node:path";
import { startHomeserver } from "../homeserver/index.ts";
import { reasonOf, DemoFailure } from "./failure.ts";
import { MatrixApi, MatrixRefusal } from "./matrix-api.ts";
import { ghostId, type Registration } from "./registration.ts";

/** The Matrix side of the demo: a homeserver, the appservice's place on it, and somebody who looks on. */
export interface Home {
    readonly url: string;
    readonly asToken: string;
    readonly bot: string;
    /** Who reads the rooms and downloads the files. */
    readonly reader: { readonly userId: string; readonly accessToken: string };
    /** The user id of a remote user's ghost. */
    ghost(name: string): string;
    /** The other way round, for display. */
    nameOf(userId: string): string;
    close(): Promise<void>;
}

const SERVER_NAME = "localhost";
const BOT = "sample_bot";
const NAMESPACE = "@sample_.*";
/** Files of `--media` may be large. */
const MAX_UPLOAD_BYTES = 2 ** 40;

/** The embedded homeserver, its state under `folder`. */
export async function embeddedHome(folder: string, asToken: string): Promise<Home> {
    const appservice = {
        id: "sample-bridge",
        asToken,
        senderLocalpart: BOT,
        userNamespaces: [NAMESPACE],
        rateLimited: false,
    };
    const homeserver = await startHomeserver({
        dataDir: join(folder, "homeserver"),
        serverName: SERVER_NAME,
        port: 0,
        appservices: [appservice],
        maxUploadBytes: MAX_UPLOAD_BYTES,
    });
    return {
        ...ghosts([NAMESPACE], SERVER_NAME),
        url: homeserver.url,
        asToken,
        bot: `@${BOT}:${SERVER_NAME}`,
        reader: homeserver.createUser("onlooker"),
        close: () => homeserver.close(),
    };
}

export interface RealServer {
    readonly url: string;
    readonly registration: Registration;
}

/** A homeserver that runs somewhere, and knows the registration. The bot looks on. */
export async function realHome({ url, registration }: RealServer): Promise<Home> {
    const { asToken, senderLocalpart, userNamespaces } = registration;
    const bot = await ownUserId(new MatrixApi(url, asToken), senderLocalpart);
    return {
        ...ghosts(userNamespaces, bot.slice(bot.indexOf(":") + 1)),
        url,
        asToken,
        bot,
        reader: { userId: bot, accessToken: asToken },
        close: async () => {},
    };
}

async function ownUserId(api: MatrixApi, senderLocalpart: string): Promise<string> {
    try {
        const { user_id: userId } = await api.request("GET", "/_matrix/client/v3/account/whoami");
        if (typeof userId === "string" && userId.startsWith(`@${senderLocalpart}:`)) return userId;
        throw new DemoFailure(`${api.url} knows the registration under another sender than @${senderLocalpart}`);
    } catch (error) {
        // Not reached is another matter than refused.
        if (error instanceof DemoFailure && !(error instanceof MatrixRefusal)) throw error;
        throw new DemoFailure(`${api.url} does not accept the registration: ${reasonOf(error)}`, { cause: error });
    }
}

function ghosts(userNamespaces: readonly string[], serverName: string): Pick<Home, "ghost" | "nameOf"> {
    const names = new Map<string, string>();
    return {
        ghost(name) {
            const userId = ghostId({ userNamespaces }, name, serverName);
            names.set(userId, name);
            return userId;
        },
        nameOf: (userId) => {
            const name = names.get(userId) ?? userId;
            return name.charAt(0).toUpperCase() + name.slice(1);
        },
    };
}
