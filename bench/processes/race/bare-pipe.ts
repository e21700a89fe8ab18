import { pipeline } from "node:stream/promises";
import { BareClient } from "./bare-client.ts";
import { serveContestant } from "./contestant.ts";
import { Lanes } from "./lanes.ts";

/**
 * The limit: `/create` and the event, room by room, and the file through a pipe beside them. Nothing is journaled,
 * checked, repeated or bounded.
 */
const lanes = new Lanes();
let client: BareClient | undefined;

serveContestant({
    async open(start) {
        client = new BareClient(start);
    },
    async deliver(message) {
        const { roomId, file } = message;
        const url = await lanes.run(roomId, async () => {
            const address = file === undefined ? undefined : await client?.create(message);
            await client?.send(message, address);
            return address;
        });
        if (file === undefined || url === undefined) return;
        const source = await client?.get(file.url);
        const upload = client?.upload(url, message, file.size);
        if (source === undefined || upload === undefined) throw new Error("not opened");
        await Promise.all([pipeline(source, upload.request), upload.answered]);
    },
});
