import { BridgeMedia, type BridgeMediaOptions, MediaError, type MessageEdit } from "../../../src/index.ts";
import { standInCrypto, withCrypto } from "../crypto.ts";
import { plainBridge } from "../world.ts";
import { messageOf, type Spoken } from "./spoken.ts";

/**
 * A bridge in a process of its own, whose disk or clock can be spoiled from outside. It does what the parent says over
 * the process channel and answers with what came of it.
 */
export interface DriverSetup {
    readonly homeserverUrl: string;
    readonly bot: string;
    readonly options: BridgeMediaOptions;
    /** Where the bridge has a crypto, the rooms that are encrypted. */
    readonly encryptedRooms?: readonly string[];
}

export type Order =
    | { readonly id: number; readonly do: "send"; readonly message: Spoken }
    | { readonly id: number; readonly do: "edit"; readonly messageId: string; readonly edit: MessageEdit }
    | { readonly id: number; readonly do: "redact"; readonly messageId: string }
    | { readonly id: number; readonly do: "picture"; readonly of: PictureOf; readonly url: string }
    | { readonly id: number; readonly do: "jobs" }
    | { readonly id: number; readonly do: "now" }
    | { readonly id: number; readonly do: "close" };

/** Whose picture it is to be. */
export type PictureOf = { readonly userId: string } | { readonly roomId: string };

export interface Reply {
    readonly id: number;
    readonly value?: unknown;
    /** Of the MediaError that was thrown. */
    readonly code?: string;
}

const setup = JSON.parse(process.argv[2] ?? "{}") as DriverSetup;
const tell = (level: string) => (text: string, details?: object) =>
    console.log(level, text, JSON.stringify(details ?? {}));
const plain = plainBridge(setup.homeserverUrl, setup.bot);
const crypto = standInCrypto(...(setup.encryptedRooms ?? []));
const media = new BridgeMedia(setup.encryptedRooms === undefined ? plain : withCrypto(plain, () => crypto), {
    ...setup.options,
    logger: { debug: tell("debug"), info: tell("info"), warn: tell("warn"), error: tell("error") },
});

async function obey(order: Order): Promise<unknown> {
    switch (order.do) {
        case "send":
            return (await media.send(messageOf(order.message))).eventId;
        case "edit":
            return (await media.edit(order.messageId, order.edit)).eventId;
        case "redact":
            return media.cancelMessage(order.messageId, { redact: true });
        case "picture": {
            const source = { kind: "http", url: order.url } as const;
            return "userId" in order.of
                ? media.avatar(order.of.userId, source)
                : media.roomAvatar(order.of.roomId, source);
        }
        case "jobs": {
            const states: string[] = [];
            for await (const { state, error } of media.jobs())
                states.push(error === undefined ? state : `${state} ${error.code}`);
            return states;
        }
        case "now":
            return Date.now();
        case "close":
            return media.close();
    }
}

process.on("message", (order: Order) => {
    obey(order).then(
        (value) => process.send?.({ id: order.id, value } satisfies Reply),
        (error: unknown) =>
            process.send?.({
                id: order.id,
                code: error instanceof MediaError ? error.code : String(error),
            } satisfies Reply),
    );
});
// Nobody is there any more.
process.on("disconnect", () => process.exit());
await media.start();
process.send?.({ id: 0 } satisfies Reply);
