import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { bodies, download, edits, messages } from "../support/download.ts";
import { ComponentProcess } from "../support/faults/component-process.ts";
import type { Spoken } from "../support/faults/spoken.ts";
import { type Exchange, FaultGate } from "../support/faults/gate.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

/** The multi-threaded one: node has several. Debian's package `faketime`. */
const LIBRARY = `/usr/lib/${{ x64: "x86_64", arm64: "aarch64" }[process.arch as string] ?? process.arch}-linux-gnu/faketime/libfaketimeMT.so.1`;
const LONG = { limitMs: 60_000 };
const HOUR = 3_600_000;

/** What libfaketime reads: seconds from the true time. The monotonic clock, by which timers run, stays true. */
const JUMPS = [
    ["forward by an hour", "+3600"],
    ["forward by 30 days", "+2592000"],
    ["back by an hour", "-3600"],
    ["back by 30 days", "-2592000"],
] as const;

describe("a clock that jumps", function () {
    this.timeout(180_000);
    let { world, remote, alice, roomId } = {} as Scene;
    let gate: FaultGate;
    let folder: string;
    let component: ComponentProcess | undefined;

    beforeEach(async () => {
        if (!existsSync(LIBRARY)) throw new Error("These tests need the package faketime: apt-get install faketime");
        ({ world, remote, alice, roomId } = await openScene({ txnMemoryMs: 0 }));
        gate = await FaultGate.open(world.homeserver.url);
        folder = await mkdtemp(join(tmpdir(), "clock-"));
    });
    afterEach(async function () {
        if (this.currentTest?.state === "failed") console.log(component?.log.join("").slice(-4000));
        await component?.kill();
        await gate.close();
        await closeScene({ world, remote });
        await rm(folder, { recursive: true });
    });

    const clockFile = (): string => join(folder, "clock");
    /** Takes effect with the next look at the clock. */
    const setClock = (offset: string): Promise<void> => writeFile(clockFile(), offset);

    async function started(): Promise<ComponentProcess> {
        component = await ComponentProcess.start(
            {
                homeserverUrl: gate.url,
                bot: world.bot,
                options: { dataDir: world.dataDir, allowPrivateAddresses: true, concurrency: 2 },
            },
            {
                LD_PRELOAD: LIBRARY,
                FAKETIME_TIMESTAMP_FILE: clockFile(),
                FAKETIME_NO_CACHE: "1",
                FAKETIME_DONT_FAKE_MONOTONIC: "1",
            },
        );
        return component;
    }

    const text = (body: string): Spoken => ({ id: body, roomId, sender: alice, content: { msgtype: "m.text", body } });
    const photo = (body: string, url: string): Spoken => ({
        ...text(body),
        content: { msgtype: "m.image", body, info: { mimetype: "image/jpeg" } },
        media: [{ url }],
    });
    const isPut =
        (part: RegExp) =>
        ({ request, passage }: Exchange): boolean =>
            request.method === "PUT" && part.test(passage.path);

    it("a job that was put off by a clock a month ahead goes on when the clock is right again", async () => {
        await setClock("+2592000");
        const media = await started();
        const bytes = someBytes(30_000);
        const failing = gate.inject(
            isPut(/\/upload\//),
            ({ response, request }) => {
                request.resume();
                response.writeHead(503).end();
            },
            1000,
        );
        await media.send(photo("photo", remote.file(bytes)));
        await until(() => failing.hits > 0 && media.log.join("").includes("will be tried again"), LONG);
        await media.kill();
        failing.lift();
        await setClock("+0");
        const again = await started();
        await until(async () => (await again.jobs()).includes("done"), LONG);
        await again.close();
    });

    for (const [name, offset] of JUMPS) {
        it(`${name}, while an event, a file, a back-off and a backlog are under way`, async () => {
            await setClock("+0");
            const media = await started();
            let jumped = false;
            const jump = async (): Promise<void> => {
                await setClock(offset);
                jumped = true;
            };
            // The clock jumps while the event is on its way; a file fails before and after, so back-offs span the jump.
            gate.inject(isPut(/\/upload\//), ({ response, request }) => {
                request.resume();
                response.writeHead(503).end();
            });
            gate.inject(isPut(/\/upload\//), async ({ pass }) => {
                await jump();
                pass();
            });
            const files = Array.from({ length: 4 }, () => someBytes(30_000));
            const before = await Promise.all([
                media.send(text("one")),
                ...files.map((bytes, index) => media.send(photo(`photo ${index}`, remote.file(bytes)))),
            ]);
            for (const id of before) expect(id).to.match(/^\$/);
            await until(() => jumped, LONG);
            const lag = Math.abs((await media.now()) - Date.now());
            expect(lag, "the component's clock").to.be.greaterThan(HOUR / 2);
            expect(await media.send(text("two"))).to.match(/^\$/);
            await until(async () => {
                const states = await media.jobs();
                return states.length >= 4 && states.filter((state) => state === "done").length >= 4;
            }, LONG);
            const said = ["one", "photo 0", "photo 1", "photo 2", "photo 3", "two"];
            expect(bodies(world.homeserver, roomId)).to.deep.equal(said);
            const edited = edits(world.homeserver, roomId);
            for (const [index, bytes] of files.entries()) {
                const event = messages(world.homeserver, roomId).find(
                    ({ content }) => content["body"] === `photo ${index}`,
                );
                // An address that seems to have ended was replaced: then an edit says so.
                const shown = edited.get(event?.event_id ?? "") ?? event?.content ?? {};
                const { status, body } = await download(world.homeserver, String(shown["url"]), 0);
                expect(status).to.equal(200);
                expect(sha256(body)).to.equal(sha256(bytes));
            }
            // And started again with the true clock.
            await media.kill();
            await setClock("+0");
            const again = await started();
            for (const body of ["one", "two"]) expect(await again.send(text(body))).to.match(/^\$/);
            expect(await again.send(text("three"))).to.match(/^\$/);
            expect(bodies(world.homeserver, roomId)).to.deep.equal([...said, "three"]);
            await again.close();
        });
    }
});
