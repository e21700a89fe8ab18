import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import type { MediaError } from "../../src/index.ts";
import { download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { closeScene, openScene } from "../support/scene.ts";

describe("a file of this machine", () => {
    it("that is a pipe nobody writes to is refused at once, probed or not, and holds up no close", async () => {
        const { world, remote, alice, roomId } = await openScene();
        const path = join(world.dataDir, "pipe");
        await promisify(execFile)("mkfifo", [path]);
        let isOver = false;
        // Whoever opens the pipe to write lets those go who wait to read: a failing test is to end too.
        const release = async () => (isOver ? undefined : promisify(execFile)("sh", ["-c", `: <> '${path}'`]));
        const rescue = setInterval(() => void release(), 8000);
        try {
            const media = world.component();
            await media.start();
            const began = performance.now();
            for (const probeHeaders of [false, true]) {
                for (const size of [undefined, 2 * 2 ** 20]) {
                    const item = { probeHeaders, ...(size !== undefined && { size }) };
                    const sent = await media.send(photoMessage(roomId, alice, { kind: "file", path }, {}, item));
                    const error = await sent.uploads[0]?.done.catch((reason: MediaError) => reason);
                    expect(error).to.include({ code: "SOURCE_REFUSED" });
                    const { status } = await download(world.homeserver, sent.uploads[0]?.contentUri ?? "", 0);
                    expect(status).to.equal(504);
                }
            }
            await media.close();
            expect(performance.now() - began).to.be.below(7500);
        } finally {
            isOver = true;
            clearInterval(rescue);
            await closeScene({ world, remote });
        }
    });
});
