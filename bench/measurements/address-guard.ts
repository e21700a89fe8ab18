import { startComponent } from "../support/context.ts";
import type { Row } from "../support/result.ts";
import type { Measurement } from "./measurement.ts";

const SMALL_FILE_BYTES = 10_000;
/** A loopback address passes the guard only because it is listed: every connection's address is judged. */
const GUARDED = ["127.0.0.0/8"];

/** Small files one after the other, by turns with the guard and without it. */
export const addressGuard: Measurement = {
    name: "address-guard",
    about: "Transfer of small files with the check of addresses against one without it",
    async measure(context) {
        const count = context.quick ? 100 : 500;
        const homeserver = context.start("homeserver");
        const remote = context.start("remote");
        const homeserverUrl = await homeserver.call("url");
        const url = `${await remote.call("url")}/file?size=${SMALL_FILE_BYTES}`;
        const unguarded = await startComponent(context, { homeserverUrl }, { allowPrivateAddresses: true });
        const guarded = await startComponent(context, { homeserverUrl }, { allowPrivateAddresses: GUARDED });
        for (const component of [unguarded, guarded]) {
            await component.call("transferMany", { url, count: 100, concurrency: 1 });
        }
        const timed = async (component: typeof guarded): Promise<number> => {
            const began = performance.now();
            await component.call("transferMany", { url, count, concurrency: 1 });
            return (performance.now() - began) / count;
        };
        const ratios: number[] = [];
        const times: number[] = [];
        for (let run = 0; run < context.runs; run++) {
            // Several short rounds by turns: what else the machine does meets both.
            const sums = { off: 0, on: 0 };
            for (let round = 0; round < 4; round++) {
                sums.off += await timed(unguarded);
                sums.on += await timed(guarded);
            }
            ratios.push(sums.on / sums.off);
            times.push(sums.on / 4);
            context.log(`without ${(sums.off / 4).toFixed(2)} ms, with ${(sums.on / 4).toFixed(2)} ms a file`);
        }
        return [
            { what: "time per small file, guard on / off", unit: "×", values: ratios, atMost: 1.05 },
            { what: "time per small file, guard on", unit: "ms", values: times },
        ] satisfies Row[];
    },
};
