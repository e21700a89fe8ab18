import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { bodies, download, messages } from "../support/download.ts";
import { ComponentProcess } from "../support/faults/component-process.ts";
import { type BrokenDisk, breakDisk, journalFiles } from "../support/faults/disk.ts";
import { type Exchange, FaultGate } from "../support/faults/gate.ts";
import type { Spoken } from "../support/faults/spoken.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const LONG = { limitMs: 60_000 };

/** Appending, syncing, and then also what opening anew needs. */
const JOURNAL_FAULTS = [
    ["EIO", "write"],
    ["EIO", "fdatasync"],
    ["EIO", "write,openat"],
    ["EIO", "fdatasync,rename"],
    ["ENOSPC", "write"],
    ["ENOSPC", "fdatasync,openat"],
] as const;
const ERRORS = ["EIO", "ENOSPC"] as const;

describe("a disk that fails", function () {
    this.timeout(180_000);
    let { world, remote, alice, roomId } = {} as Scene;
    let gate: FaultGate;
    let component: ComponentProcess | undefined;
    let disk: BrokenDisk | undefined;

    beforeEach(async () => {
        // What the journal forgot would be said twice: the homeserver remembers no transactions.
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
            options: { dataDir: world.dataDir, allowPrivateAddresses: true, reserveAhead: 0 },
        });
        return component;
    }

    const text = (body: string): Spoken => ({ id: body, roomId, sender: alice, content: { msgtype: "m.text", body } });
    const photo = (body: string, file: { url?: string; base64?: string }): Spoken => ({
        ...text(body),
        content: { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } },
        media: [file],
    });

    /** Holds the next matching request until it is let go; resolves when it is there. */
    function hold(matches: (exchange: Exchange) => boolean): { held: Promise<void>; letGo: () => void } {
        let letGo = (): void => {};
        const held = new Promise<void>((resolve) => {
            gate.inject(matches, (exchange) => {
                resolve();
                letGo = () => exchange.pass();
            });
        });
        return { held, letGo: () => letGo() };
    }

    const isA =
        (method: string, part: RegExp) =>
        ({ request, passage }: Exchange) =>
            request.method === method && part.test(passage.path);

    function spoiled(calls: string, error: "EIO" | "ENOSPC"): Promise<BrokenDisk> {
        if (component === undefined) throw new Error("not started");
        return breakDisk(component.pid, { calls, error, paths: journalFiles(world.dataDir) });
    }

    async function expectFile(body: string, bytes: Buffer): Promise<void> {
        const event = messages(world.homeserver, roomId).find(({ content }) => content["body"] === body);
        const { status, body: content } = await download(world.homeserver, String(event?.content["url"]), 0);
        expect(status).to.equal(200);
        expect(sha256(content)).to.equal(sha256(bytes));
    }

    for (const [error, calls] of JOURNAL_FAULTS) {
        it(`journal: ${error} of ${calls}, when a message comes, when its event and its file are on their way`, async () => {
            let media = await started();
            const bytes = someBytes(50_000);
            await media.send(text("first"));

            disk = await spoiled(calls, error);
            const kept = someBytes(1000).toString("base64");
            expect(await media.send(photo("second", { base64: kept }))).to.equal("STORE_WRITE_FAILED");
            expect(await media.send(text("third"))).to.equal("STORE_WRITE_FAILED");
            expect(disk.hits).to.be.greaterThan(0);
            await disk.mend();
            expect(await media.send(text("third"))).to.match(/^\$/);

            const event = hold(isA("PUT", /\/send\//));
            const sending = [media.send(photo("fourth", { url: remote.file(bytes) })), media.send(text("fifth"))];
            await event.held;
            disk = await spoiled(calls, error);
            event.letGo();
            await until(() => bodies(world.homeserver, roomId).includes("fourth"), LONG);
            await until(() => (disk?.hits ?? 0) > 0, LONG);
            const file = hold(isA("PUT", /\/upload\//));
            await disk.mend();
            for (const id of await Promise.all(sending)) expect(id).to.match(/^\$/);

            await file.held;
            disk = await spoiled(calls, error);
            file.letGo();
            await until(() => (disk?.hits ?? 0) > 0, LONG);
            await disk.mend();
            await until(async () => (await media.jobs()).includes("done"), LONG);
            await expectFile("fourth", bytes);
            expect(
                gate.puts.filter(({ path }) => path.includes("/upload/")),
                "uploads",
            ).to.have.length(1);

            // And killed while the disk refuses to journal an event that is there.
            const last = hold(isA("PUT", /\/send\//));
            void media.send(text("sixth"));
            await last.held;
            disk = await spoiled(calls, error);
            last.letGo();
            await until(() => (disk?.hits ?? 0) > 0, LONG);
            await media.kill();
            await disk.mend();
            media = await started();
            for (const body of ["third", "fifth", "sixth"]) expect(await media.send(text(body))).to.match(/^\$/);
            expect(bodies(world.homeserver, roomId)).to.deep.equal(["first", "third", "fourth", "fifth", "sixth"]);
            expect(await media.jobs()).to.deep.equal(["done"]);
            await media.close();
        });
    }

    it("every commit is on the disk before it counts: one sync for each that stands alone", async () => {
        const media = await started();
        await media.send(text("first"));
        const watch = await breakDisk(media.pid, { calls: "fdatasync", paths: journalFiles(world.dataDir) });
        const MESSAGES = 20;
        for (let index = 0; index < MESSAGES; index++) await media.send(text(`${index}`));
        // Each is journaled when it comes, and when its event is there.
        await until(() => watch.hits >= 2 * MESSAGES, LONG);
        await watch.mend();
        await media.close();
    });

    describe("spool", () => {
        const spoolDir = (): string => join(world.dataDir, "spool");
        const spooled = async (): Promise<string[]> =>
            (await readdir(spoolDir())).map((name) => join(spoolDir(), name));

        for (const error of ERRORS) {
            it(`${error} while a source without a length is copied: another try, nothing is left`, async () => {
                const media = await started();
                const bytes = someBytes(400_000);
                let goOn = (): void => {};
                let asked = 0;
                const url = remote.on("/cat", (_request, response) => {
                    response.writeHead(200, { "content-type": "image/jpeg" });
                    if (++asked > 1) return response.end(bytes);
                    response.write(bytes.subarray(0, 100_000));
                    goOn = () => response.end(bytes.subarray(100_000));
                    return undefined;
                });
                await media.send(photo("cat", { url }));
                const path = await until(async () => (await spooled())[0], LONG);
                disk = await breakDisk(media.pid, { calls: "write,writev,pwrite64,fsync", error, paths: [path] });
                goOn();
                await until(() => (disk?.hits ?? 0) > 0, LONG);
                await disk.mend();
                await until(async () => (await media.jobs()).includes("done"), LONG);
                expect(media.log.join("")).to.include("SPOOL_FAILED");
                await expectFile("cat", bytes);
                expect(await spooled()).to.deep.equal([]);
                await media.close();
            });

            it(`${error} of the sync of handed-over bytes: the call rejects, nothing is journaled or left`, async () => {
                const media = await started();
                const base64 = someBytes(50_000).toString("base64");
                disk = await breakDisk(media.pid, { calls: "fsync", error });
                expect(await media.send(photo("cat", { base64 }))).to.equal("SPOOL_FAILED");
                expect(disk.hits).to.be.greaterThan(0);
                await disk.mend();
                expect(bodies(world.homeserver, roomId)).to.deep.equal([]);
                expect(await spooled()).to.deep.equal([]);
                expect(await media.jobs()).to.deep.equal([]);
                expect(await media.send(photo("cat", { base64 }))).to.match(/^\$/);
                await media.close();
            });
        }

        it("EIO while a spooled file is read: another try", async () => {
            const media = await started();
            const bytes = someBytes(300_000);
            const { held, letGo } = hold(isA("PUT", /\/send\//));
            const sending = media.send(photo("cat", { base64: bytes.toString("base64") }));
            await held;
            disk = await breakDisk(media.pid, {
                calls: "read,pread64,readv,preadv",
                error: "EIO",
                paths: await spooled(),
            });
            letGo();
            await sending;
            await until(() => (disk?.hits ?? 0) > 0, LONG);
            await until(() => media.log.join("").includes("will be tried again"), LONG);
            expect(media.log.join("")).to.include("SPOOL_FAILED");
            await disk.mend();
            await until(async () => (await media.jobs()).includes("done"), LONG);
            await expectFile("cat", bytes);
            await until(async () => (await spooled()).length === 0, LONG);
            await media.close();
        });

        it("EIO when the copy of a source without a length is removed: the file is there by one upload", async () => {
            const media = await started();
            const bytes = someBytes(300_000);
            const url = remote.on("/cat", (_request, response) => {
                response.writeHead(200, { "content-type": "image/jpeg" }).end(bytes);
            });
            const { held, letGo } = hold(isA("PUT", /\/upload\//));
            await media.send(photo("cat", { url }));
            await held;
            disk = await breakDisk(media.pid, { calls: "unlink,unlinkat,rmdir", error: "EIO", paths: await spooled() });
            letGo();
            await until(async () => (await media.jobs()).includes("done") && (disk?.hits ?? 0) > 0, LONG);
            await disk.mend();
            await expectFile("cat", bytes);
            expect(
                gate.puts.filter(({ path }) => path.includes("/upload/")),
                "uploads",
            ).to.have.length(1);
            await media.close();
            const again = await started();
            expect(await spooled()).to.deep.equal([]);
            await again.close();
        });

        it("EIO when a spooled file is removed: the file is there, and gone after the next start", async () => {
            const media = await started();
            const bytes = someBytes(300_000);
            const { held, letGo } = hold(isA("PUT", /\/send\//));
            const sending = media.send(photo("cat", { base64: bytes.toString("base64") }));
            await held;
            disk = await breakDisk(media.pid, { calls: "unlink,unlinkat,rmdir", error: "EIO", paths: await spooled() });
            letGo();
            await sending;
            await until(async () => (await media.jobs()).includes("done") && (disk?.hits ?? 0) > 0, LONG);
            await disk.mend();
            await expectFile("cat", bytes);
            await media.close();
            const again = await started();
            expect(await spooled()).to.deep.equal([]);
            await again.close();
        });
    });
});
