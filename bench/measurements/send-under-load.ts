import type { ComponentHandlers } from "../processes/component.ts";
import type { Child } from "../support/child.ts";
import { startComponent, type Context } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import { percentile } from "../support/statistics.ts";
import { GIBIBYTE, type Measurement } from "./measurement.ts";

const TRANSFERS = 4;
const PAUSE_MS = 15;
/** Together a saturated line of 1 Gbit/s. */
const LINE_RATE = 30e6;

/**
 * p99 of a media `send()` against that of a text while four 1 GiB transfers run, and both against the p99 without
 * transfers just before; a finished transfer is followed by the next. Once at the rate of a fast line, once as fast as the machine can copy. In the latter case the
 * processors are the bottleneck, so the row of a bare pipe that sends bare requests says what remains possible.
 */
export const sendUnderLoad: Measurement = {
    name: "send-under-load",
    about: "`send()` p99 while four transfers of 1 GiB run",
    async measure(context) {
        const remoteUrl = await context.start("remote").call("url");
        // Uploads and events go to one address, as a component has it.
        const homeserverUrl = await context.start("homeserver").call("url");
        const file = `${remoteUrl}/file?etag=1&size=${GIBIBYTE}`;
        const photoUrl = `${remoteUrl}/file?etag=1&size=48000`;
        const rows: Row[] = [];
        for (const [name, url] of [
            ["1 Gbit/s", `${file}&rate=${LINE_RATE}`],
            ["unlimited", file],
        ] as const) {
            const ratios = {
                between: [] as number[],
                text: [] as number[],
                media: [] as number[],
                bare: [] as number[],
            };
            for (let run = 0; run < context.runs; run++) {
                const component = await startComponent(context, { homeserverUrl });
                const idle = await sends(context, component, photoUrl);
                await component.call("keepTransferring", { url, count: TRANSFERS });
                const busy = await sends(context, component, photoUrl);
                await component.kill();
                ratios.between.push(busy.media / busy.text);
                ratios.text.push(busy.text / idle.text);
                ratios.media.push(busy.media / idle.media);
                const pipe = await bareSends(context, homeserverUrl, url);
                ratios.bare.push(pipe.busy / pipe.idle);
                context.log(
                    `${name}: text p99 ${idle.text.toFixed(2)} → ${busy.text.toFixed(2)} ms, media p99 ` +
                        `${idle.media.toFixed(2)} → ${busy.media.toFixed(2)} ms, ` +
                        `bare p99 ${pipe.idle.toFixed(2)} → ${pipe.busy.toFixed(2)} ms`,
                );
            }
            rows.push(
                { what: `media p99 / text p99, both busy, ${name}`, unit: "×", values: ratios.between, atMost: 1.5 },
                { what: `text p99, busy / idle, ${name}`, unit: "×", values: ratios.text },
                { what: `media p99, busy / idle, ${name}`, unit: "×", values: ratios.media },
                { what: `bare request p99 beside bare pipes, busy / idle, ${name}`, unit: "×", values: ratios.bare },
            );
        }
        return rows;
    },
};

async function sends(context: Context, component: Child<ComponentHandlers>, photoUrl: string) {
    const { text, media } = await component.call("sends", {
        count: context.quick ? 100 : 300,
        pauseMs: PAUSE_MS,
        roomId: "!bench:bench.example",
        sender: "@ghost_bob:bench.example",
        photoUrl,
        // While four large transfers hold every place the photos' own wait.
        settle: false,
    });
    return { text: percentile(text, 0.99), media: percentile(media, 0.99) };
}

async function bareSends(context: Context, homeserverUrl: string, url: string) {
    const pipe = context.start("pipe");
    await pipe.call("start", homeserverUrl);
    const round = { count: context.quick ? 100 : 300, pauseMs: PAUSE_MS };
    const idle = percentile(await pipe.call("sends", round), 0.99);
    await pipe.call("keepTransferring", { url, count: TRANSFERS });
    const busy = percentile(await pipe.call("sends", round), 0.99);
    await pipe.kill();
    return { idle, busy };
}
