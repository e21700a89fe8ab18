import type { Row } from "../support/result.ts";
import { againstPipe } from "./against-pipe.ts";
import type { Measurement } from "./measurement.ts";

/** With a source that a broken download could be resumed from, and with one that names no validator. */
export const throughput: Measurement = {
    name: "throughput",
    about: "Transfer of 1 GiB against a bare node:http pipe",
    async measure(context) {
        const homeserverUrl = await context.start("homeserver").call("url");
        const remoteUrl = await context.start("remote").call("url");
        const rows: Row[] = [];
        for (const [kind, query] of [
            ["resumable source (ETag)", "&etag=1"],
            ["source without a validator", ""],
        ] as const) {
            const urlOf = (size: number): string => `${remoteUrl}/file?size=${size}${query}`;
            rows.push(...(await againstPipe(context, { homeserverUrl, kind, urlOf })));
        }
        return rows;
    },
};
