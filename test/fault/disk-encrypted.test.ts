import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { decrypted, readable } from "../support/crypto.ts";
import { download, messages } from "../support/download.ts";
import { ComponentProcess } from "../support/faults/component-process.ts";
import { type BrokenDisk, breakDisk } from "../support/faults/disk.ts";
import { FaultGate } from "../support/faults/gate.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const LONG = { limitMs: 60_000 };

/** The ciphertext of a file lies in the spool from before its event until it is uploaded. */
describe("a disk that fails under a ciphertext", function () {
    this.timeout(180_000);
    const bytes = someBytes(400_000);
    let { world, remote, alice, roomId } = {} as Scene;
    let gate: FaultGate;
    let component: ComponentProcess | undefined;
    let disk: BrokenDisk | undefined;

    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene({ txnMemoryMs: 0 }));
        gate = await FaultGate.open(world.homeserver.url);
    });
    afterEach(async function () {
        if (this.currentTest?.state === "failed") console.log(component?.log.join("").slice(-4000));
        await disk?.mend();
        await component?.kill();
        await gate.close();
        await closeScene({ world, remote });
    });

    async function started(): Promise<ComponentProcess> {
        component = await ComponentProcess.start({
            homeserverUrl: gate.url,
            bot: world.bot,
            options: { dataDir: world.dataDir, allowPrivateAddresses: true, encryption: "spool" },
            encryptedRooms: [roomId],
        });
        return component;
    }

    const spooled = async (): Promise<string[]> => {
        const folder = join(world.dataDir, "spool");
        return (await readdir(folder)).map((name) => join(folder, name));
    };
    const send = (media: ComponentProcess, url: string): Promise<string> =>
        media.send({
            id: "cat",
            roomId,
            sender: alice,
            content: { msgtype: "m.image", body: "cat", info: { mimetype: "image/jpeg" } },
            media: [{ url }],
        });

    /** Once in the room, whole, and nothing in the clear or left. */
    async function expectFile(media: ComponentProcess): Promise<void> {
        await until(async () => (await media.jobs()).includes("done"), LONG);
        const [event, ...others] = readable(world.homeserver, roomId);
        expect(others, "other events").to.deep.equal([]);
        expect(messages(world.homeserver, roomId), "in the clear").to.deep.equal([]);
        const file = event?.content["file"] as { readonly url: string };
        const { status, body } = await download(world.homeserver, file.url, 0);
        expect(status).to.equal(200);
        expect(sha256(await decrypted(body, file))).to.equal(sha256(bytes));
    }

    /** A source that has given the beginning of the file to whoever asked first, and goes on when it is told to. */
    function slowSource(): { url: string; goOn: () => void } {
        let goOn = (): void => {};
        let asked = 0;
        const url = remote.on("/cat", (_request, response) => {
            response.writeHead(200, { "content-type": "image/jpeg", "content-length": bytes.length });
            if (++asked > 1) return void response.end(bytes);
            response.write(bytes.subarray(0, 100_000));
            goOn = () => response.end(bytes.subarray(100_000));
        });
        return { url, goOn: () => goOn() };
    }

    /** Holds the event's request until it is let go; then its ciphertext is on disk, and not read yet. */
    async function atTheEvent(media: ComponentProcess): Promise<{ path: string; letGo: () => void }> {
        let letGo: (() => void) | undefined;
        gate.inject(
            ({ request, passage }) => request.method === "PUT" && passage.path.includes("/send/"),
            ({ pass }) => void (letGo = pass),
        );
        void send(media, remote.file(bytes));
        const pass = await until(() => letGo, LONG);
        const [path = ""] = await spooled();
        expect(path).to.match(/\.encrypted$/);
        return { path, letGo: pass };
    }

    async function met(calls: string, error: "EIO" | "ENOSPC", path: string, letGo: () => void): Promise<void> {
        disk = await breakDisk(component?.pid ?? 0, { calls, error, paths: [path] });
        letGo();
        await until(() => (disk?.hits ?? 0) > 0, LONG);
    }

    for (const error of ["EIO", "ENOSPC"] as const) {
        for (const [what, calls] of [
            ["written", "write,writev,pwrite64"],
            ["synced", "fsync"],
        ] as const) {
            for (const isKilled of error === "EIO" ? [false, true] : [false]) {
                const then = isKilled ? "a new start" : "another try";
                it(`${error} while it is ${what}: ${then}, with a key of its own, and nothing is left`, async () => {
                    let media = await started();
                    const { url, goOn } = slowSource();
                    const sending = send(media, url);
                    const path = await until(async () => (await spooled())[0], LONG);
                    await met(calls, error, path, goOn);
                    expect(readable(world.homeserver, roomId), "an event without its file").to.deep.equal([]);
                    if (isKilled) await media.kill();
                    await disk?.mend();
                    if (isKilled) media = await started();
                    else expect(await sending).to.match(/^\$/);
                    expect(await send(media, url)).to.match(/^\$/);
                    await expectFile(media);
                    if (!isKilled) expect(media.log.join("")).to.include("SPOOL_FAILED");
                    await until(async () => (await spooled()).length === 0, LONG);
                    await media.close();
                });
            }
        }
    }

    for (const isKilled of [false, true]) {
        it(`EIO while it is read: ${isKilled ? "a new start" : "another try"}, of the same ciphertext`, async () => {
            let media = await started();
            const { path, letGo } = await atTheEvent(media);
            await met("read,pread64,readv,preadv", "EIO", path, letGo);
            await until(() => media.log.join("").includes("will be tried again"), LONG);
            expect(media.log.join("")).to.include("SPOOL_FAILED");
            if (isKilled) await media.kill();
            await disk?.mend();
            if (isKilled) media = await started();
            await expectFile(media);
            expect(remote.requests, "looks at the source").to.have.length(1);
            await until(async () => (await spooled()).length === 0, LONG);
            await media.close();
        });
    }

    it("EIO when it is removed: the file is there, and gone after the next start", async () => {
        const media = await started();
        const { path, letGo } = await atTheEvent(media);
        await met("unlink,unlinkat,rmdir", "EIO", path, letGo);
        await expectFile(media);
        await media.close();
        await disk?.mend();
        const again = await started();
        expect(await spooled()).to.deep.equal([]);
        await again.close();
    });

    it("EIO of whatever is done with it: told as the disk's, not as the source's", async () => {
        const media = await started();
        const { url, goOn } = slowSource();
        const sending = send(media, url);
        const path = await until(async () => (await spooled())[0], LONG);
        await met("write,writev,pwrite64,fsync,unlink,unlinkat", "EIO", path, goOn);
        await until(() => media.log.join("").includes("will be tried again"), LONG);
        expect(media.log.join("")).to.include("SPOOL_FAILED").and.not.to.include("SOURCE_UNAVAILABLE");
        await disk?.mend();
        expect(await sending).to.match(/^\$/);
        await expectFile(media);
        await until(async () => (await spooled()).length === 0, LONG);
        await media.close();
    });
});
