import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { bodies, download, edits, messages } from "../support/download.ts";
import { clockEnvironment, setClock } from "../support/faults/clock.ts";
import { ComponentProcess } from "../support/faults/component-process.ts";
import type { Spoken } from "../support/faults/spoken.ts";
import { type Exchange, FaultGate } from "../support/faults/gate.ts";
import { sha256, someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const LONG = { limitMs: 60_000 };
const HOUR = 3_600_000;

const DAY = 24 * HOUR;

const JUMPS = [
    ["forward by an hour", HOUR],
    ["forward by 30 days", 30 * DAY],
    ["back by an hour", -HOUR],
    ["back by 30 days", -30 * DAY],
] as const;

describe("a clock that jumps", function () {
    this.timeout(180_000);
    let { world, remote, alice, roomId } = {} as Scene;
    let gate: FaultGate;
    let folder: string;
    let component: ComponentProcess | undefined;

    beforeEach(async () => {
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
    const turnClock = (offsetMs: number): Promise<void> => setClock(clockFile(), offsetMs);

    async function started(): Promise<ComponentProcess> {
        component = await ComponentProcess.start(
            {
                homeserverUrl: gate.url,
                bot: world.bot,
                options: { dataDir: world.dataDir, allowPrivateAddresses: true, concurrency: 2 },
            },
            clockEnvironment(clockFile()),
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
        await turnClock(30 * DAY);
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
        await turnClock(0);
        const again = await started();
        await until(async () => (await again.jobs()).includes("done"), LONG);
        await again.close();
    });

    for (const [name, offset] of JUMPS) {
        it(`${name}, while an event, a file, a back-off and a backlog are under way`, async () => {
            await turnClock(0);
            const media = await started();
            let jumped = false;
            const jump = async (): Promise<void> => {
                await turnClock(offset);
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
            await turnClock(0);
            const again = await started();
            for (const body of ["one", "two"]) expect(await again.send(text(body))).to.match(/^\$/);
            expect(await again.send(text("three"))).to.match(/^\$/);
            expect(bodies(world.homeserver, roomId)).to.deep.equal([...said, "three"]);
            await again.close();
        });
    }
});
