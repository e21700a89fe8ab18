import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { expect } from "chai";
import { fileOf } from "../support/crash-files.ts";
import type { DriverPlan } from "../support/crash-driver.ts";
import { bodies, download, messages } from "../support/download.ts";
import { compiledDriver } from "../support/compiled-driver.ts";
import { gets, openPresignedScene, type PresignedScene } from "../support/presigned-scene.ts";
import { sha256 } from "../support/remote.ts";
import { startS3rver } from "../support/s3rver.ts";

describe("kill -9 between a storage and the homeserver", function () {
    this.timeout(60_000);
    let scene: PresignedScene;
    let child: ChildProcess | undefined;
    afterEach(async () => {
        child?.kill("SIGKILL");
        await scene.close();
    });

    for (const drop of ["before", "after"] as const) {
        it(`repeats only /complete, killed ${drop} it was heard`, async () => {
            scene = await openPresignedScene(startS3rver);
            const { world, remote, alice, roomId } = scene;
            const bytes = fileOf("0-1");
            const url = remote.on("/0-1", (_request, response) => {
                response.writeHead(200, { "content-length": bytes.length }).end(bytes);
            });
            // A text, and a file behind it.
            const plan: DriverPlan = {
                homeserverUrl: world.homeserver.url,
                remoteUrl: remote.url,
                dataDir: world.dataDir,
                bot: world.bot,
                ghosts: [alice],
                rooms: [roomId],
                messagesPerRoom: 2,
            };
            const start = (): ChildProcess => {
                child = spawn(process.execPath, [compiledDriver("crash-driver"), JSON.stringify(plan)], {
                    stdio: ["ignore", "ignore", "inherit"],
                });
                return child;
            };

            const first = start();
            const stop = world.homeserver.intercept(({ path }) => {
                if (!path.endsWith("/complete")) return undefined;
                if (drop === "before") first.kill("SIGKILL");
                else setImmediate(() => first.kill("SIGKILL"));
                return { drop };
            });
            await once(first, "exit");
            stop();
            expect(first.signalCode, "the moment came").to.equal("SIGKILL");
            const [code] = (await once(start(), "exit")) as [number | null];
            expect(code, "the second run").to.equal(0);

            expect(bodies(world.homeserver, roomId)).to.deep.equal(["0", "1"]);
            const mxc = String(messages(world.homeserver, roomId).at(-1)?.content["url"]);
            expect(sha256((await download(world.homeserver, mxc, 0)).body)).to.equal(sha256(bytes));
            expect(scene.storage.gate.puts.map(({ status }) => status)).to.deep.equal([200]);
            expect(gets(scene, url)).to.equal(1);
            expect(scene.outcomes().at(-1)).to.equal(drop === "before" ? "complete 200" : "complete 409");
        });
    }
});
