import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";
import { bodies, download, messages } from "../support/download.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { AS_TOKEN } from "../support/world.ts";

const ROOT = new URL("../../", import.meta.url);

describe("the examples in the docs", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    it("examples/migrating.ts runs, and docs/migrating.md shows what it says", async () => {
        const page = await readFile(new URL("docs/migrating.md", ROOT), "utf8");
        const example = await readFile(new URL("examples/migrating.ts", ROOT), "utf8");
        const shown = [...page.matchAll(/<!-- from: examples\/migrating\.ts -->\n```ts\n(.*?)```/gs)].map(
            ([, code = ""]) => code,
        );
        expect(shown).to.have.length(3);
        for (const code of shown) expect(example).to.contain(code);

        const bytes = someBytes(5000);
        await promisify(execFile)(
            process.execPath,
            ["--import=tsx", fileURLToPath(new URL("examples/migrating.ts", ROOT))],
            {
                env: {
                    ...process.env,
                    HOMESERVER_URL: world.homeserver.url,
                    AS_TOKEN,
                    ROOM_ID: roomId,
                    PHOTO_URL: remote.file(bytes),
                    DATA_DIR: world.dataDir,
                    GHOST: alice,
                },
            },
        );
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["cat.jpg", "cat.jpg", "cat.jpg", "What do you think?"]);
        const [first] = messages(world.homeserver, roomId);
        // The program leaves at once; what had not arrived by then arrives at its next start.
        const { status } = await download(world.homeserver, String(first?.content["url"]), 0);
        expect(status).to.be.oneOf([200, 504]);
    });
});
