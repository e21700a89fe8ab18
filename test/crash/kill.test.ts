import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { decrypted, readable } from "../support/crypto.ts";
import { bodies, download, messages } from "../support/download.ts";
import { fileOf } from "../support/crash-files.ts";
import type { DriverPlan } from "../support/crash-driver.ts";
import { compiledDriver } from "../support/compiled-driver.ts";
import { type Remote, sha256, startRemote } from "../support/remote.ts";
import { openWorld, type World } from "../support/world.ts";

const MESSAGES = 12;
/** Milliseconds after a start. */
const INSTANTS = [0, 3, 9, 17, 30, 55, 90];

/** A request of the component, as the wire shows it, and whether the homeserver has handled it when the kill comes. */
interface Moment {
    readonly name: string;
    readonly matches: (request: { method: string; path: string }) => boolean;
    readonly nth: number;
    readonly drop: "before" | "after";
}

const isCreate = ({ path }: { path: string }): boolean => path.includes("/v1/create");
const isSend = ({ path }: { path: string }): boolean => path.includes("/send/");
const isUpload = ({ method, path }: { method: string; path: string }): boolean =>
    method === "PUT" && path.includes("/upload/");

const MOMENTS: readonly Moment[] = [
    { name: "before a reservation is made", matches: isCreate, nth: 2, drop: "before" },
    { name: "between a reservation and its journal entry", matches: isCreate, nth: 3, drop: "after" },
    { name: "before an event is accepted", matches: isSend, nth: 4, drop: "before" },
    { name: "between an event's acceptance and its journal entry", matches: isSend, nth: 5, drop: "after" },
    { name: "when an upload begins", matches: isUpload, nth: 2, drop: "before" },
    { name: "between an upload's end and its journal entry", matches: isUpload, nth: 3, drop: "after" },
];

describe("kill -9", function () {
    this.timeout(120_000);
    let world: World;
    let remote: Remote;
    let plan: DriverPlan;
    let child: ChildProcess | undefined;

    beforeEach(async () => {
        // Transactions are forgotten at once, as when the homeserver was restarted meanwhile.
        world = await openWorld({ txnMemoryMs: 0 });
        remote = await startRemote();
        const ghosts = [world.ghost("one"), world.ghost("two")];
        const rooms = [await world.room(...ghosts), await world.room(...ghosts)];
        plan = {
            homeserverUrl: world.homeserver.url,
            remoteUrl: remote.url,
            dataDir: world.dataDir,
            bot: world.bot,
            ghosts,
            rooms,
            messagesPerRoom: MESSAGES,
        };
        for (const room of rooms.keys()) {
            for (let index = 1; index < MESSAGES; index += 3) {
                const name = `${room}-${index}`;
                remote.on(`/${name}`, (_request, response) => {
                    const bytes = fileOf(name);
                    response.writeHead(200, { "content-length": bytes.length }).end(bytes);
                });
            }
        }
    });
    afterEach(async () => {
        child?.kill("SIGKILL");
        await world.close();
        await remote.close();
    });

    function start(): ChildProcess {
        child = spawn(process.execPath, [compiledDriver("crash-driver"), JSON.stringify(plan)], {
            stdio: ["ignore", "pipe", "inherit"],
        });
        return child;
    }

    async function runToTheEnd(): Promise<void> {
        const running = start();
        const [code] = (await once(running, "exit")) as [number | null];
        expect(code, "the last run").to.equal(0);
    }

    /** Kills the component the moment that the request shows on the wire; the request's answer never arrives. */
    async function killAt({ matches, nth, drop }: Moment): Promise<void> {
        const running = start();
        let count = 0;
        const stop = world.homeserver.intercept((request) => {
            if (!matches(request) || ++count !== nth) return undefined;
            if (drop === "before") running.kill("SIGKILL");
            else setImmediate(() => running.kill("SIGKILL"));
            return { drop };
        });
        await once(running, "exit");
        stop();
        expect(running.signalCode, "the moment came").to.equal("SIGKILL");
    }

    async function killAfter(milliseconds: number): Promise<void> {
        const running = start();
        if (running.stdout === null) throw new Error("no output");
        for await (const line of createInterface(running.stdout)) if (line === "started") break;
        const timer = setTimeout(() => running.kill("SIGKILL"), milliseconds);
        if (running.exitCode === null && running.signalCode === null) await once(running, "exit");
        clearTimeout(timer);
    }

    async function expectWhole(kills: number): Promise<void> {
        for (const [room, roomId] of plan.rooms.entries()) {
            expect(bodies(world.homeserver, roomId)).to.deep.equal(
                Array.from({ length: MESSAGES }, (_, index) => `${index}`),
            );
            for (const { content } of messages(world.homeserver, roomId)) {
                const { url } = content;
                if (typeof url !== "string") continue;
                const { status, body } = await download(world.homeserver, url, 0);
                expect(status).to.equal(200);
                expect(sha256(body)).to.equal(sha256(fileOf(`${room}-${String(content["body"])}`)));
            }
        }
        expect(await readdir(join(world.dataDir, "spool")), "spooled files").to.deep.equal([]);
        // One that was handed out and never heard of is beyond anyone's reach; a kill can leave one a request under way.
        for (const ghost of plan.ghosts) expect(world.homeserver.pendingMedia(ghost)).to.be.at.most(2 + 2 * kills);
    }

    async function expectWholeEncrypted(): Promise<void> {
        for (const [room, roomId] of plan.rooms.entries()) {
            expect(messages(world.homeserver, roomId)).to.deep.equal([]);
            const events = readable(world.homeserver, roomId);
            expect(events.map(({ content }) => content["body"])).to.deep.equal(
                Array.from({ length: MESSAGES }, (_, index) => `${index}`),
            );
            for (const { content } of events) {
                const file = content["file"] as { url: string } | undefined;
                if (file === undefined) continue;
                const { body } = await download(world.homeserver, file.url, 0);
                const bytes = await decrypted(body, file);
                expect(sha256(bytes)).to.equal(sha256(fileOf(`${room}-${String(content["body"])}`)));
            }
        }
        expect(await readdir(join(world.dataDir, "spool")), "spooled files").to.deep.equal([]);
    }

    for (const moment of MOMENTS) {
        it(moment.name, async () => {
            await killAt(moment);
            await runToTheEnd();
            await expectWhole(1);
        });
    }

    for (const encryption of ["spool", "two-pass"] as const) {
        for (const moment of [...MOMENTS.slice(2), undefined]) {
            it(`in encrypted rooms (${encryption}), ${moment?.name ?? "at whatever instant"}`, async () => {
                plan = { ...plan, encryption };
                if (moment === undefined) for (const instant of INSTANTS) await killAfter(instant);
                else await killAt(moment);
                await runToTheEnd();
                await expectWholeEncrypted();
            });
        }
    }

    it("at whatever instant, again and again", async () => {
        for (const instant of INSTANTS) await killAfter(instant);
        await runToTheEnd();
        await expectWhole(INSTANTS.length);
    });
});
