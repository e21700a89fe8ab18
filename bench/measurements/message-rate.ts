import type { ComponentHandlers } from "../processes/component.ts";
import type { PipeHandlers } from "../processes/pipe.ts";
import type { Child } from "../support/child.ts";
import { startComponent } from "../support/context.ts";
import { anyRooms } from "../support/rooms.ts";
import type { Measurement } from "./measurement.ts";

const ROOMS = 100;

/**
 * Texts as fast as they come through outbox and journal, one event in flight a room, to a homeserver that answers at
 * once. Beside it the same requests without outbox and journal: what the sockets and the homeserver allow.
 */
export const messageRate: Measurement = {
    name: "message-rate",
    about: "Messages a second over 100 rooms",
    async measure(context) {
        const count = context.quick ? 5000 : 20_000;
        const values = { ours: [] as number[], bare: [] as number[], cpu: [] as number[] };
        for (let run = 0; run < context.runs; run++) {
            const homeserverUrl = await context.start("homeserver").call("url");
            const pipe = context.start("pipe", { inBridge: true });
            await pipe.call("start", homeserverUrl);
            const component = await startComponent(context, { homeserverUrl }, { inBridge: true });
            // Both have compiled their hot code by then.
            await flood(component, count / 4);
            await bareFlood(pipe, count / 4);
            const before = await component.call("usage");
            const rate = await flood(component, count);
            const after = await component.call("usage");
            const bare = await bareFlood(pipe, count);
            values.ours.push(rate);
            values.bare.push(bare);
            values.cpu.push(((after.cpuSeconds - before.cpuSeconds) / count) * 1000);
            context.log(`${rate.toFixed(0)} messages/s, ${bare.toFixed(0)} bare requests/s`);
            await component.stop();
            await pipe.stop();
        }
        return [
            { what: "texts through outbox and journal", unit: "/s", values: values.ours, atLeast: 2000 },
            { what: "CPU time of one message", unit: "ms", values: values.cpu },
            { what: "bare requests, 100 at once", unit: "/s", values: values.bare },
        ];
    },
};

function flood(component: Child<ComponentHandlers>, count: number): Promise<number> {
    return component.call("flood", { kind: "text", count, roomIds: anyRooms(ROOMS), url: "", key: "" });
}

function bareFlood(pipe: Child<PipeHandlers>, count: number): Promise<number> {
    return pipe.call("flood", { count, atOnce: ROOMS });
}
