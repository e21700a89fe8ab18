import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import type { MediaError } from "../../src/index.ts";
import { bodies } from "../support/download.ts";
import { compiledDriver } from "../support/compiled-driver.ts";
import type { LockPlan } from "../support/lock-driver.ts";
import { textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";

/** Another process, and what it says, line by line. */
interface Other {
    readonly child: ChildProcess;
    readonly said: () => Promise<unknown>;
}

describe("two processes and one data directory", function () {
    this.timeout(120_000);
    let scene: Scene;
    let others: ChildProcess[] = [];
    beforeEach(async () => {
        scene = await openScene();
    });
    afterEach(async () => {
        for (const child of others) child.kill("SIGKILL");
        others = [];
        await closeScene(scene);
    });

    function other(): Other {
        const { world, alice, roomId } = scene;
        const { homeserver, dataDir, bot } = world;
        const plan: LockPlan = { homeserverUrl: homeserver.url, dataDir, bot, ghost: alice, roomId };
        const child = spawn(process.execPath, [compiledDriver("lock-driver"), JSON.stringify(plan)], {
            stdio: ["pipe", "pipe", "inherit"],
        });
        others.push(child);
        const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
        return { child, said: async () => (await lines.next()).value };
    }

    const refusal = (start: Promise<unknown>): Promise<unknown> =>
        start.then(
            () => "started",
            ({ code, retryable }: MediaError) => ({ code, retryable }),
        );

    it("the second is told STORE_LOCKED and touches nothing, and the first one goes on", async () => {
        const { world, roomId } = scene;
        const first = other();
        expect(await first.said()).to.equal("started");
        const spool = join(world.dataDir, "spool");
        const before = await readdir(spool);
        for (let times = 0; times < 2; times++) {
            const refused = await refusal(world.component().start());
            expect(refused).to.deep.equal({ code: "STORE_LOCKED", retryable: false });
        }
        const third = other();
        expect(await third.said()).to.equal("STORE_LOCKED");
        expect(await readdir(spool)).to.deep.equal(before);
        first.child.stdin?.write("one\n");
        expect(await first.said()).to.equal("sent");
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["one"]);
    });

    it("the files of a bridge that is open are not swept by one that may not open", async () => {
        const { world, alice, roomId } = scene;
        // Held, so that its bytes stay in the spool.
        const stop = world.homeserver.intercept(({ method, path }) =>
            method === "PUT" && path.includes("/upload/") ? { drop: "before" } : undefined,
        );
        const media = world.component();
        await media.start();
        const item = { at: ["url"], source: { kind: "buffer", data: someBytes(1000) } } as const;
        const content = { msgtype: "m.file", body: "file" };
        const sent = await media.send({ id: "file", roomId, sender: alice, content, media: [item] });
        const spool = join(world.dataDir, "spool");
        const [name = ""] = await readdir(spool);
        expect(await other().said()).to.equal("STORE_LOCKED");
        expect((await readFile(join(spool, name))).length).to.equal(1000);
        stop();
        expect((await sent.uploads[0]?.done)?.state).to.equal("done");
    });

    it("a lock that a killed process has left holds nobody up", async () => {
        const { world, alice, roomId } = scene;
        const first = other();
        expect(await first.said()).to.equal("started");
        first.child.stdin?.write("one\n");
        expect(await first.said()).to.equal("sent");
        first.child.kill("SIGKILL");
        await once(first.child, "exit");
        expect(await readdir(join(world.dataDir, "journal"))).to.include("LOCK");
        const media = world.component();
        await media.start();
        await media.send(textMessage(roomId, alice, "two"));
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["one", "two"]);
    });
});
