import { BareClient } from "./bare-client.ts";
import { serveContestant } from "./contestant.ts";
import { Lanes } from "./lanes.ts";
import { wholeFile } from "./remote-file.ts";

/**
 * As bridges on mautrix-go do it: the whole remote file into memory, `/create`, the event, and an upload that is let go of:
 * nobody bounds how many there are, and nothing of them is on disk. One message of a room after the other.
 */
const lanes = new Lanes();
let client: BareClient | undefined;

serveContestant({
    async open(start) {
        client = new BareClient(start);
    },
    async deliver(message) {
        const { roomId, file } = message;
        const detached = await lanes.run(roomId, async () => {
            if (file === undefined) {
                await client?.send(message);
                return undefined;
            }
            const bytes = await wholeFile(file.url);
            const url = (await client?.create(message)) ?? "";
            await client?.send(message, url);
            const upload = client?.upload(url, message, bytes.length);
            upload?.request.end(bytes);
            // Wrapped: the lane does not wait for it.
            return { answered: upload?.answered };
        });
        await detached?.answered;
    },
});
