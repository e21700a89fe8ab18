import type { ComponentHandlers } from "../processes/component.ts";
import type { Child } from "../support/child.ts";
import { startComponent, type Context } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { roomWithGhost } from "../support/rooms.ts";
import { median, percentile } from "../support/statistics.ts";
import { type Measurement } from "./measurement.ts";

const PHOTO_BYTES = 48_000;
const PAUSE_MS = 15;

/**
 * Text and media sends by turns, one at a time, in one room: each media send finds a reservation kept ahead, and the
 * file of the one before it has been transferred. Both kinds meet the same machine at the same time.
 */
export const sendLatency: Measurement = {
    name: "send-latency",
    about: "`send()`, media against text",
    async measure(context) {
        const photoUrl = `${await context.start("remote").call("url")}/file?size=${PHOTO_BYTES}&etag=1`;
        const bareUrl = await context.start("homeserver").call("url");
        const bare = await startComponent(context, { homeserverUrl: bareUrl });
        const access = await context.start("embedded-homeserver").call("start", await context.folder());
        const embedded = await startComponent(context, access);
        const room = await roomWithGhost(access);
        const pipe = context.start("pipe");
        await pipe.call("start", bareUrl);
        const count = context.quick ? 100 : 400;
        const rounds = { count, pauseMs: PAUSE_MS, photoUrl, settle: true };
        const values = { embedded: empty(), bare: empty(), request: [] as number[] };
        const bareRoom = { roomId: "!bench:bench.example", sender: "@ghost_alice:bench.example" };
        await bare.call("sends", { ...rounds, ...bareRoom, count: 50 });
        await embedded.call("sends", { ...rounds, ...room, count: 50 });
        for (let run = 0; run < context.runs; run++) {
            await round(context, embedded, { ...rounds, ...room }, values.embedded, "embedded homeserver");
            await round(context, bare, { ...rounds, ...bareRoom }, values.bare, "bare homeserver");
            values.request.push(median(await pipe.call("sends", { count, pauseMs: PAUSE_MS })));
        }
        return [
            ...rows(values.embedded, "embedded homeserver"),
            ...rows(values.bare, "bare homeserver"),
            { what: "one bare request, bare homeserver, p50", unit: "ms", values: values.request },
        ];
    },
};

function empty() {
    return { text: [] as number[], media: [] as number[], ratio: [] as number[] };
}

async function round(
    context: Context,
    component: Child<ComponentHandlers>,
    sends: Parameters<ComponentHandlers["sends"]>[0],
    into: ReturnType<typeof empty>,
    name: string,
): Promise<void> {
    const { text, media, cold } = await component.call("sends", sends);
    into.text.push(median(text));
    into.media.push(median(media));
    into.ratio.push(median(media) / median(text));
    context.log(
        `${name}: text p50 ${median(text).toFixed(2)} p99 ${percentile(text, 0.99).toFixed(2)} ms, ` +
            `media p50 ${median(media).toFixed(2)} p99 ${percentile(media, 0.99).toFixed(2)} ms, ${cold} cold`,
    );
}

function rows({ text, media, ratio }: ReturnType<typeof empty>, name: string): Row[] {
    return [
        { what: `media p50 / text p50, ${name}`, unit: "×", values: ratio, atMost: 1.15 },
        { what: `text p50, ${name}`, unit: "ms", values: text },
        { what: `media p50, ${name}`, unit: "ms", values: media },
    ];
}
