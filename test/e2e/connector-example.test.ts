import { readFile } from "node:fs/promises";
import { expect } from "chai";
import { linkedFiles } from "../../examples/connector.ts";
import { download } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";

const ROOT = new URL("../../", import.meta.url);

describe("examples/connector.ts", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    it("is what docs/sources-and-connectors.md shows", async () => {
        const page = await readFile(new URL("docs/sources-and-connectors.md", ROOT), "utf8");
        const example = await readFile(new URL("examples/connector.ts", ROOT), "utf8");
        const [, shown = ""] = /<!-- from: examples\/connector\.ts -->\n```ts\n(.*?)```/s.exec(page) ?? [];
        expect(shown).to.have.length.above(1000);
        expect(example).to.contain(shown);
    });

    it("gets a file whose link has run out", async () => {
        const bytes = someBytes(300_000);
        const link = remote.file(bytes);
        const expired = remote.on("/expired", (_request, response) => response.writeHead(403).end());
        remote.on("/files/F1", (request, response) => {
            expect(request.headers.authorization).to.equal("Bearer secret");
            response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ link }));
        });
        const media = world.component({ connectors: { files: linkedFiles(remote.url, "secret") } });
        await media.start();
        const source = { kind: "connector", connector: "files", ref: { fileId: "F1", link: expired } } as const;
        const { uploads } = await media.send(photoMessage(roomId, alice, source));
        expect(await uploads[0]?.done).to.include({ state: "done", attempts: 0 });
        expect((await download(world.homeserver, uploads[0]?.contentUri ?? "")).body.equals(bytes)).to.equal(true);
    });
});
