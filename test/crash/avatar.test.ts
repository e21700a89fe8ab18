import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect } from "chai";
import { LevelStore } from "../../src/store/level.ts";
import type { AvatarPlan } from "../support/avatar-driver.ts";
import { download } from "../support/download.ts";
import { compiledDriver } from "../support/compiled-driver.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const BYTES = someBytes(4000);
const PATIENCE = { limitMs: 60_000 };

const isUpload = (path: string): boolean => path.includes("/upload/");
const isProfile = (path: string): boolean => path.endsWith("/avatar_url");
const isRoomState = (path: string): boolean => path.includes("/state/m.room.avatar");
const MOMENTS = [
    { name: "before its file is uploaded", matches: isUpload, drop: "before" },
    { name: "between its file's end and the request that sets it, of a user", matches: isProfile, drop: "before" },
    { name: "between its file's end and the request that sets it, of a room", matches: isRoomState, drop: "before" },
    { name: "between the request that sets it and the journal entry", matches: isProfile, drop: "after" },
] as const;

describe("kill -9 while a picture is to be set", function () {
    this.timeout(180_000);
    let scene: Scene;
    let child: ChildProcess | undefined;
    afterEach(async () => {
        child?.kill("SIGKILL");
        await closeScene(scene);
    });

    /** Starts a process that asks for two pictures, or only goes on with them. */
    const driver =
        ({ world, alice, roomId }: Scene, fileUrl: string) =>
        (asks: boolean): ChildProcess => {
            const plan: AvatarPlan = {
                homeserverUrl: world.homeserver.url,
                fileUrl,
                dataDir: world.dataDir,
                bot: world.bot,
                ghost: alice,
                roomId,
                asks,
            };
            child = spawn(process.execPath, [compiledDriver("avatar-driver"), JSON.stringify(plan)], {
                stdio: ["pipe", "ignore", "inherit"],
            });
            return child;
        };

    /** Resolves with the addresses of both pictures once they are set. */
    const pictures = async ({ world, alice, roomId }: Scene): Promise<string[]> => {
        const get = (path: string, key: string) =>
            world.request(world.bot, "GET", path).then(
                (answer) => answer[key] as string | undefined,
                () => undefined,
            );
        return [
            await until(() => get(`/profile/${encodeURIComponent(alice)}/avatar_url`, "avatar_url"), PATIENCE),
            await until(() => get(`/rooms/${encodeURIComponent(roomId)}/state/m.room.avatar`, "url"), PATIENCE),
        ];
    };

    for (const { name, matches, drop } of MOMENTS) {
        it(`${name}: the next start sets it`, async () => {
            scene = await openScene();
            const { world, remote } = scene;
            const start = driver(scene, remote.file(BYTES));
            const first = start(true);
            // The two have different uploaders: once both upload, both are journaled.
            const uploaders = new Set<string | undefined>();
            const stop = world.homeserver.intercept(({ method, path, user }) => {
                if (method !== "PUT") return undefined;
                if (isUpload(path)) uploaders.add(user);
                if (uploaders.size < 2) return { status: 503, body: {} };
                if (!matches(path)) return undefined;
                if (drop === "before") first.kill("SIGKILL");
                else setImmediate(() => first.kill("SIGKILL"));
                return { drop };
            });
            await once(first, "exit");
            stop();
            expect(first.signalCode, "the moment came").to.equal("SIGKILL");

            const heard = world.homeserver.requests.length;
            const second = start(false);
            const shown = await pictures(scene);
            // What the first one has set without hearing of it is set again.
            const isSetAgain = (): boolean =>
                world.homeserver.requests
                    .slice(heard)
                    .some(({ method, path, status }) => method === "PUT" && isProfile(path) && status === 200);
            if (drop === "after" && matches === isProfile) await until(isSetAgain, PATIENCE);
            for (const uri of shown) expect((await download(world.homeserver, uri)).body.equals(BYTES)).to.equal(true);
            second.stdin?.end();
            await once(second, "exit");
            const store = new LevelStore(join(world.dataDir, "journal"));
            await store.open(() => {});
            for await (const key of store.keys({ collection: "avatar" })) expect.fail(`${key} is still to be set`);
            await store.close();
        });
    }

    it("before its file is uploaded, and for longer than its address lives: the next start sets it at another", async () => {
        scene = await openScene({ unusedExpirationMs: 3000 });
        const { world, remote, alice } = scene;
        const start = driver(scene, remote.file(BYTES));
        const first = start(true);
        const uploaders = new Set<string | undefined>();
        const stop = world.homeserver.intercept(({ method, path, user }) => {
            if (method !== "PUT" || !isUpload(path)) return undefined;
            uploaders.add(user);
            if (uploaders.size === 2) first.kill("SIGKILL");
            return { status: 503, body: {} };
        });
        await once(first, "exit");
        stop();
        expect(first.signalCode, "the moment came").to.equal("SIGKILL");
        for (const user of [alice, world.bot])
            await until(() => world.homeserver.pendingMedia(user) === 0, { what: "every address has ended" });
        const second = start(false);
        for (const uri of await pictures(scene))
            expect((await download(world.homeserver, uri)).body.equals(BYTES)).to.equal(true);
        second.stdin?.end();
        await once(second, "exit");
    });

    it("on a server without /create, while its file is uploaded: the next start sets it", async () => {
        scene = await openScene({ features: { create: false } });
        const { world, remote } = scene;
        const start = driver(scene, remote.file(BYTES));
        const first = start(true);
        const uploaders = new Set<string | undefined>();
        const stop = world.homeserver.intercept(({ method, path, user }) => {
            if (method !== "POST" || !path.endsWith("/upload")) return undefined;
            uploaders.add(user);
            if (uploaders.size === 2) first.kill("SIGKILL");
            return { drop: "before" };
        });
        await once(first, "exit");
        stop();
        expect(first.signalCode, "the moment came").to.equal("SIGKILL");
        const second = start(false);
        for (const uri of await pictures(scene))
            expect((await download(world.homeserver, uri)).body.equals(BYTES)).to.equal(true);
        second.stdin?.end();
        await once(second, "exit");
    });
});
