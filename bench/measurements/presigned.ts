import { againstPipe, WARM_UP_FILES } from "./against-pipe.ts";
import type { Measurement } from "./measurement.ts";

/** As the throughput measurement, with a homeserver that wants its files at presigned addresses. */
export const presigned: Measurement = {
    name: "presigned",
    about: "Presigned transfer of 1 GiB against a bare node:http pipe",
    async measure(context) {
        const homeserver = context.start("homeserver");
        await homeserver.call("presigned", true);
        const homeserverUrl = await homeserver.call("url");
        const remoteUrl = await context.start("remote").call("url");
        const urlOf = (size: number): string => `${remoteUrl}/file?etag=1&size=${size}`;
        const rows = await againstPipe(context, { homeserverUrl, kind: "presigned", urlOf });
        const { storedFiles, completed } = await homeserver.call("counts");
        const expected = context.runs * (1 + WARM_UP_FILES);
        if (storedFiles !== expected || completed !== expected) {
            throw new Error(
                `${storedFiles} files went to the storage and ${completed} were completed, not ${expected}`,
            );
        }
        return rows;
    },
};
