import { ALL, Runner } from "./contestants.ts";
import type { Measurement } from "../measurement.ts";
import { MEBIBYTE } from "../measurement.ts";
export const thin: Measurement = {
    name: "race-thin",
    about: "thin",
    async measure(context) {
        const homeserver = context.start("homeserver");
        const track = {
            homeserverUrl: await homeserver.call("url"),
            accessToken: "token",
            serverName: "bench.example",
            seen: () => homeserver.call("seen"),
        };
        const remote = await context.start("remote").call("url");
        const rows = [];
        for (const name of ALL) {
            const runner = await Runner.start(context, name, track);
            const base = { roomId: "!room:bench.example", sender: "@ghost_a:bench.example", atMs: 0 };
            await runner.run([{ ...base, key: "warm" }]);
            const out = await runner.run([{ ...base, key: "one", file: { url: `${remote}/file?size=${100 * MEBIBYTE}&etag=1`, size: 100 * MEBIBYTE } }]);
            console.error(name, out);
            rows.push({ what: name, unit: "ms" as const, values: out.toRoom });
            await runner.stop();
        }
        return rows;
    },
};
