import type { FloodKind } from "../processes/component.ts";
import { startComponent } from "../support/context.ts";
import type { Measurement } from "./measurement.ts";

const ROOMS = 50;
/** Short ones, so that a minute in which the machine is slower is one for all kinds. */
const PARTS = 20;
/** Stickers that were sent before. */
const OTHERS = 16;
const KINDS: readonly FloodKind[] = ["text", "bareSticker", "sticker"];

/**
 * One sticker sent again and again, over many rooms, against as many texts, and as many events that say the same as a
 * sticker's and have no file: by turns, on the bare homeserver. The first stickers find no file yet and wait for the
 * transfer of one of them; all of them count.
 */
export const stickers: Measurement = {
    name: "stickers",
    about: "One sticker sent 10,000 times, against texts",
    async measure(context) {
        const url = `${await context.start("remote").call("url")}/file?size=48000&etag=1`;
        const count = context.quick ? 4000 : 10_000;
        const ratio: number[] = [];
        const dedupe: number[] = [];
        const uploads: number[] = [];
        const rates: Record<FloodKind, number[]> = { text: [], bareSticker: [], sticker: [] };
        for (let run = 0; run < context.runs; run++) {
            const homeserver = context.start("homeserver");
            const component = await startComponent(context, { homeserverUrl: await homeserver.call("url") });
            const flood = { count: count / PARTS, rooms: ROOMS, url, key: "sticker/cat" };
            // Code that runs for the first times is slow, whatever it sends: also what runs only until a sticker is there.
            const others = { ...flood, key: "sticker/dog", stickers: OTHERS };
            for (const kind of KINDS) await component.call("flood", { ...others, kind, count: count / 4 });
            const before = (await homeserver.call("counts")).uploads;
            const seconds: Record<FloodKind, number> = { text: 0, bareSticker: 0, sticker: 0 };
            for (let part = 0; part < PARTS; part++) {
                for (const kind of turned(KINDS, part)) {
                    seconds[kind] += flood.count / (await component.call("flood", { ...flood, kind }));
                }
            }
            for (const kind of KINDS) rates[kind].push(count / seconds[kind]);
            ratio.push(seconds.text / seconds.sticker);
            dedupe.push(seconds.bareSticker / seconds.sticker);
            uploads.push((await homeserver.call("counts")).uploads - before);
            const said = KINDS.map((kind) => `${kind} ${rates[kind].at(-1)?.toFixed(0)}/s`).join(", ");
            context.log(`${said}, ${uploads.at(-1)} transfers`);
            await component.kill();
            await homeserver.kill();
        }
        return [
            { what: "stickers / texts, sends a second", unit: "×", values: ratio, atLeast: 0.9 },
            { what: "stickers / the same events without a file", unit: "×", values: dedupe },
            { what: "transfers of the sticker", unit: "transfers", values: uploads, atMost: 1 },
            { what: "stickers", unit: "/s", values: rates.sticker },
            { what: "the same events without a file", unit: "/s", values: rates.bareSticker },
            { what: "texts", unit: "/s", values: rates.text },
        ];
    },
};

/** Each comes first, second and last about as often: who is between two others is a tenth slower. */
function turned(kinds: readonly FloodKind[], part: number): FloodKind[] {
    const first = part % kinds.length;
    return [...kinds.slice(first), ...kinds.slice(0, first)];
}
