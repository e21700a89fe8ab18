import { startComponent } from "../support/context.ts";
import type { Measurement } from "./measurement.ts";

const ROOMS = 50;

/**
 * One sticker sent again and again, over many rooms, against as many texts: by turns, on the bare homeserver. The first
 * stickers find no file yet and wait for the transfer of one of them; all of them count.
 */
export const stickers: Measurement = {
    name: "stickers",
    about: "One sticker sent 10,000 times, against texts",
    async measure(context) {
        const url = `${await context.start("remote").call("url")}/file?size=48000&etag=1`;
        const count = context.quick ? 4000 : 10_000;
        const values = {
            ratio: [] as number[],
            text: [] as number[],
            sticker: [] as number[],
            uploads: [] as number[],
        };
        for (let run = 0; run < context.runs; run++) {
            const homeserver = context.start("homeserver");
            const component = await startComponent(context, { homeserverUrl: await homeserver.call("url") });
            const flood = { count: count / 4, rooms: ROOMS, url, key: "sticker/cat" };
            // Code that runs for the first time is slow, whatever it sends.
            await component.call("flood", { ...flood, kind: "text" });
            await component.call("flood", { ...flood, kind: "sticker", key: "sticker/dog" });
            const before = (await homeserver.call("counts")).uploads;
            const sums = { text: 0, sticker: 0 };
            for (let part = 0; part < 4; part++) {
                for (const kind of part % 2 === 0 ? (["sticker", "text"] as const) : (["text", "sticker"] as const)) {
                    sums[kind] += flood.count / (await component.call("flood", { ...flood, kind }));
                }
            }
            const [text, sticker] = [count / sums.text, count / sums.sticker];
            const uploads = (await homeserver.call("counts")).uploads - before;
            values.ratio.push(sticker / text);
            values.text.push(text);
            values.sticker.push(sticker);
            values.uploads.push(uploads);
            context.log(`stickers ${sticker.toFixed(0)}/s, texts ${text.toFixed(0)}/s, ${uploads} transfers`);
            await component.kill();
            await homeserver.kill();
        }
        return [
            { what: "stickers / texts, sends a second", unit: "×", values: values.ratio, atLeast: 0.9 },
            { what: "transfers of the sticker", unit: "transfers", values: values.uploads, atMost: 1 },
            { what: "stickers", unit: "/s", values: values.sticker },
            { what: "texts", unit: "/s", values: values.text },
        ];
    },
};
