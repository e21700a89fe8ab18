import { expect } from "chai";
import type { RemoteMessage } from "../../src/index.ts";
import { gets, openPresignedScene, type PresignedScene } from "./presigned-scene.ts";
import { someBytes } from "./remote.ts";
import type { S3, Storage } from "./storage.ts";

/** What must hold with every S3. */
export function presignedCases(startS3: () => Promise<S3>): void {
    let scene: PresignedScene;
    afterEach(() => scene.close());

    /** Sends one photo; whatever the storage does, it must arrive. */
    async function arrives(bytes: Buffer, extra?: Partial<RemoteMessage>) {
        const media = scene.world.component();
        await media.start();
        const photo = await scene.photo(media, bytes, extra);
        expect(photo.job.state).to.equal("done");
        await scene.expectContent(photo, bytes);
        return photo;
    }

    function signedWith(options: (storage: Storage) => (mediaId: string) => Promise<string>): Promise<PresignedScene> {
        return openPresignedScene(startS3, (storage) => ({ uploadUrl: options(storage) }));
    }

    for (const size of [0, 1, 300_000, 3_000_000]) {
        it(`a file of ${size} bytes goes to the storage and comes out of the homeserver`, async () => {
            scene = await openPresignedScene(startS3);
            const bytes = someBytes(size);
            // A picture of no bytes would be refused.
            const { url } = await arrives(bytes, { content: { msgtype: "m.file", body: "file" } });
            expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([200]);
            expect(scene.outcomes()).to.deep.equal(["complete 200"]);
            expect(gets(scene, url)).to.equal(1);
        });
    }

    it("the type that was signed is the type that is sent", async () => {
        scene = await signedWith((storage) => (id) => storage.sign(id, { contentType: "image/jpeg" }));
        await arrives(someBytes(5000));
        expect(scene.outcomes()).to.deep.equal(["complete 200"]);
    });

    it("another type than the signed one is refused, and the homeserver takes the file", async () => {
        scene = await signedWith((storage) => (id) => storage.sign(id, { contentType: "image/png" }));
        await arrives(someBytes(5000));
        expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([403]);
        expect(scene.outcomes()).to.deep.equal(["upload 200"]);
    });

    const tampering: Record<string, (url: string, id: string) => string> = {
        path: (url, id) => url.replace(`/${id}?`, `/other${id}?`),
        signature: (url) =>
            url.replace(/(X-Amz-Signature=)(\w)/, (_, name, digit) => name + (digit === "0" ? "1" : "0")),
        "time of its end": (url) => url.replace(/X-Amz-Expires=\d+/, "X-Amz-Expires=86400"),
    };
    for (const [part, tamper] of Object.entries(tampering)) {
        it(`an address whose ${part} was tampered with is refused, and the homeserver takes the file`, async () => {
            scene = await signedWith((storage) => async (id) => tamper(await storage.sign(id), id));
            await arrives(someBytes(5000));
            expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([403]);
            expect(scene.outcomes()).to.deep.equal(["upload 200"]);
        });
    }

    it("an address that was used for another file takes this one, the homeserver does not find it, and takes it itself", async () => {
        scene = await signedWith((storage) => () => storage.sign("of-another-file"));
        const used = await fetch(await scene.storage.sign("of-another-file"), { method: "PUT", body: "another file" });
        expect(used.status).to.equal(200);
        await arrives(someBytes(5000));
        expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([200, 200]);
        expect(scene.outcomes()).to.deep.equal(["complete 404", "upload 200"]);
    });

    it("an expired address is tried once, and the homeserver takes the file", async () => {
        const anHourAgo = new Date(Date.now() - 3_600_000);
        scene = await signedWith((storage) => (id) => storage.sign(id, { signedAt: anHourAgo }));
        await arrives(someBytes(5000));
        expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([403]);
        expect(scene.outcomes()).to.deep.equal(["upload 200"]);
    });
}
