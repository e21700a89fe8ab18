import { BridgeMedia, type BridgeMediaOptions, MediaError, type MessageEdit } from "../../../src/index.ts";
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
}

export type Order =
    | { readonly id: number; readonly do: "send"; readonly message: Spoken }
    | { readonly id: number; readonly do: "edit"; readonly messageId: string; readonly edit: MessageEdit }
    | { readonly id: number; readonly do: "jobs" }
    | { readonly id: number; readonly do: "now" }
    | { readonly id: number; readonly do: "close" };

export interface Reply {
    readonly id: number;
    readonly value?: unknown;
    /** Of the MediaError that was thrown. */
    readonly code?: string;
}

const setup = JSON.parse(process.argv[2] ?? "{}") as DriverSetup;
const tell = (level: string) => (text: string, details?: object) =>
    console.log(level, text, JSON.stringify(details ?? {}));
const media = new BridgeMedia(plainBridge(setup.homeserverUrl, setup.bot), {
    ...setup.options,
    logger: { debug: tell("debug"), info: tell("info"), warn: tell("warn"), error: tell("error") },
});

async function obey(order: Order): Promise<unknown> {
    switch (order.do) {
        case "send":
            return (await media.send(messageOf(order.message))).eventId;
        case "edit":
            return (await media.edit(order.messageId, order.edit)).eventId;
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
