import { chmod, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";
import { expect } from "chai";
import { Registry } from "prom-client";
import type { JobInfo, MediaError } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { PresignedTarget } from "../../src/uploads/targets/presigned.ts";
import type { PresignedMedia } from "../../src/dev/homeserver/index.ts";
import { messages } from "../support/download.ts";
import { photoMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";

const SECRET = "ThePartThatNobodyMaySee";
/** All but the unused addresses, which are kept to be used. */
const COLLECTIONS = [
    "message",
    "outbox",
    "job",
    "schedule",
    "waiting",
    "held",
    "following",
    "dedupe",
    "dedupe-used",
    "avatar",
    "expiring",
    "edited",
    "revise",
    "finished",
    "meta",
    "store",
];

describe("a presigned address", () => {
    let scene: Scene;
    afterEach(() => closeScene(scene));

    /** Addresses at the remote's server, answered as the test says. */
    async function open(path: string, given: Partial<PresignedMedia> = {}): Promise<void> {
        scene = await openScene({
            presigned: {
                uploadUrl: () => `${scene.remote.url}${path}?it's(quoted)&X-Amz-Signature=${SECRET}`,
                read: async () => undefined,
                ...given,
            },
        });
    }

    /** Everything that can be seen of one photo, whatever becomes of it. */
    async function seen(options: Parameters<Scene["world"]["component"]>[0] = {}): Promise<string> {
        const { world, remote, alice, roomId } = scene;
        const all: unknown[] = [];
        const note = (...said: unknown[]): void => void all.push(said);
        const registry = new Registry();
        const media = world.component({ logger: { debug: note, info: note, warn: note, error: note }, ...options });
        media.registerMetrics(registry);
        media.on("job", note);
        await media.start();
        const sent = await media.send(photoMessage(roomId, alice, { kind: "http", url: remote.file(someBytes(1000)) }));
        const end = await sent.uploads[0]?.done.catch((error: MediaError) => error);
        const jobs: JobInfo[] = [];
        for await (const job of media.jobs()) jobs.push(job);
        all.push(end, jobs, await registry.metrics(), messages(world.homeserver, roomId), sent);
        await until(async () => {
            for await (const job of media.jobs({ state: "done" })) if (job.state === "done") return true;
            for await (const job of media.jobs({ state: "failed" })) if (job.state === "failed") return true;
            return false;
        });
        await media.close();
        return inspect(all, { depth: 20, maxArrayLength: 1000, maxStringLength: 100_000, showHidden: true });
    }

    async function journal(collections = COLLECTIONS): Promise<string> {
        const store = new LevelStore(join(scene.world.dataDir, "journal"));
        await store.open(() => {});
        const all = await recordsOf(store, collections);
        await store.close();
        return all;
    }

    async function recordsOf(store: LevelStore, collections = COLLECTIONS): Promise<string> {
        const all: unknown[] = [];
        for (const collection of collections) {
            for await (const entry of store.range({ collection })) all.push(entry);
        }
        return JSON.stringify(all);
    }

    /** A component whose journal can be looked at while it runs. */
    async function started(options: Parameters<Scene["world"]["component"]>[0] = {}) {
        const store = new LevelStore(join(scene.world.dataDir, "journal"));
        const media = scene.world.component({ reserveAhead: 0, store: () => store, ...options });
        await media.start();
        const isForgotten = async () => !(await recordsOf(store)).includes(SECRET);
        return { media, store, isForgotten };
    }

    /** The address of a file that never comes. */
    function endless(): { url: string; isAsked: () => boolean } {
        let isAsked = false;
        const url = scene.remote.on("/endless", () => (isAsked = true));
        return { url, isAsked: () => isAsked };
    }

    const shared = (url: string) =>
        photoMessage(scene.roomId, scene.alice, { kind: "http", url }, {}, { dedupeKey: "sticker/1" });

    const fates: readonly [string, () => Promise<string>, "done" | "failed"][] = [
        ["a refusal", async () => (await open("/nowhere"), seen()), "done"],
        [
            "a connection that breaks",
            async () => {
                await open("/broken");
                scene.remote.on("/broken", (request) => request.socket.destroy());
                return seen();
            },
            "done",
        ],
        [
            "a redirect that repeats it",
            async () => {
                await open("/redirect");
                scene.remote.on("/redirect", (request, response) => {
                    response.writeHead(307, { location: request.url }).end(request.url);
                });
                return seen();
            },
            "done",
        ],
        [
            "an answer that is none",
            async () => {
                await open("/garbage");
                scene.remote.on("/garbage", (request) => void request.socket.end(`nonsense ${request.url}\r\n\r\n`));
                return seen();
            },
            "done",
        ],
        [
            "a URL that is not quite one",
            async () => {
                await open("/", { uploadUrl: () => `${scene.remote.url}/%zz?%zz&X-Amz-Signature=${SECRET}` });
                return seen();
            },
            "done",
        ],
        [
            "success",
            async () => {
                await open("/taken");
                scene.remote.on("/taken", (request, response) => void request.resume().on("end", () => response.end()));
                scene.world.homeserver.intercept(({ path }) =>
                    path.endsWith("/complete") ? { status: 200, body: {} } : undefined,
                );
                return seen();
            },
            "done",
        ],
        [
            "a failure for good",
            async () => {
                await open("/refusing");
                scene.world.homeserver.intercept(({ method, path }) =>
                    method === "PUT" && path.includes("/upload/")
                        ? { status: 400, body: { errcode: "M_UNKNOWN" } }
                        : undefined,
                );
                return seen();
            },
            "failed",
        ],
        [
            "a file that is not there",
            async () => {
                await open("/unused");
                scene.remote.on = () => `${scene.remote.url}/gone`;
                return seen();
            },
            "failed",
        ],
    ];
    for (const [name, play, state] of fates) {
        it(`is seen nowhere, and forgotten in the end: ${name}`, async () => {
            const everything = await play();
            expect(everything).to.contain(state);
            expect(everything).not.to.contain(SECRET);
            expect(await journal()).not.to.contain(SECRET);
            // Those kept ahead must know it.
            expect(await journal(["reservation"])).to.contain(SECRET);
        });
    }

    it("is with a shared file only while one of its jobs may need it: the one under way is cancelled", async () => {
        await open("/unused");
        const { media, store, isForgotten } = await started();
        const { url, isAsked } = endless();
        const { uploads } = await media.send(shared(url));
        await until(isAsked);
        expect(await recordsOf(store, ["dedupe"])).to.contain(SECRET);
        await media.cancel(uploads[0]?.jobId ?? "");
        await until(isForgotten);
        expect(await recordsOf(store, ["dedupe"])).to.contain("pending");
    });

    it("is with a shared file only while one of its jobs may need it: it is cancelled before its turn", async () => {
        await open("/unused");
        const { media, store, isForgotten } = await started({ concurrency: 1, smallFileConcurrency: 0 });
        const { url, isAsked } = endless();
        const inTheWay = await media.send(photoMessage(scene.roomId, scene.alice, { kind: "http", url }));
        await until(isAsked);
        const { uploads } = await media.send(shared(url));
        await media.cancel(uploads[0]?.jobId ?? "");
        await media.cancel(inTheWay.uploads[0]?.jobId ?? "");
        await until(isForgotten);
        expect(await recordsOf(store, ["dedupe"])).to.contain("pending");
    });

    it("goes with a shared file to whoever transfers it next", async () => {
        await open("/taken");
        const { world, remote } = scene;
        let stored = 0;
        remote.on("/taken", (request, response) => {
            stored++;
            request.resume().on("end", () => response.end());
        });
        world.homeserver.intercept(({ path }) => (path.endsWith("/complete") ? { status: 200, body: {} } : undefined));
        const { media, isForgotten } = await started();
        const { url, isAsked } = endless();
        const first = await media.send(shared(url));
        await until(isAsked);
        const second = await media.send(shared(remote.file(someBytes(1000))));
        await media.cancel(first.uploads[0]?.jobId ?? "");
        expect(await second.uploads[0]?.done).to.include({ contentUri: first.uploads[0]?.contentUri });
        expect(stored).to.equal(1);
        await until(isForgotten);
    });

    it("is not kept for somebody who may never come, and who fills the address by way of the homeserver", async () => {
        await open("/unused");
        const { media, isForgotten } = await started();
        const { url, isAsked } = endless();
        const first = await media.send(shared(url));
        await until(isAsked);
        await media.cancel(first.uploads[0]?.jobId ?? "");
        await until(isForgotten);
        const second = await media.send(shared(scene.remote.file(someBytes(1000))));
        const end = await second.uploads[0]?.done;
        expect(end).to.include({ state: "done", contentUri: first.uploads[0]?.contentUri });
    });

    for (const path of ["/broken", "/silent", "/%zz?%zz"]) {
        it(`is in no error, nor in what lies below one: ${path}`, async () => {
            await open("/unused");
            scene.remote.on("/broken", (request) => request.socket.destroy());
            scene.remote.on("/silent", () => {});
            const url = `${scene.remote.url}${path}${path.includes("?") ? "&" : "?"}X-Amz-Signature=${SECRET}`;
            const limits = { connectMs: 1000, headersMs: 200, idleMs: 1000, totalMs: 1000 };
            const body = (async function* () {
                yield Buffer.from("x");
            })();
            const contentUri = "mxc://a/b";
            const upload = { uploader: "@a:b", contentUri, filename: undefined, size: 1, mimetype: "image/png", body };
            const error = await new PresignedTarget({ url, method: "PUT" }, limits)
                .put(upload, new AbortController().signal)
                .catch((reason: unknown) => reason);
            expect(error)
                .to.have.property("code")
                .that.matches(/^PRESIGNED_/);
            expect(inspect(error, { depth: 20, showHidden: true, maxStringLength: 100_000 })).not.to.contain(SECRET);
        });
    }

    it("lies in files of the component's user only, also those that an earlier version left", async () => {
        await open("/nowhere");
        await seen();
        const folder = join(scene.world.dataDir, "journal");
        for (const name of await readdir(folder)) await chmod(join(folder, name), 0o644);
        const media = scene.world.component();
        await media.start();
        const modes = await Promise.all(
            (await readdir(folder)).map(async (name) => {
                const found = await stat(join(folder, name)).catch((error: NodeJS.ErrnoException) => {
                    // LevelDB may take a file away between the two looks.
                    if (error.code !== "ENOENT") throw error;
                });
                return found === undefined ? undefined : (found.mode & 0o777).toString(8);
            }),
        );
        expect(new Set(modes.filter((mode) => mode !== undefined))).to.have.all.keys("600");
        await media.close();
    });

    it("lies in folders of the component's user only, also where they were there before", async () => {
        await open("/nowhere");
        await seen();
        const { dataDir } = scene.world;
        for (const folder of ["journal", "spool"]) await chmod(join(dataDir, folder), 0o777);
        await seen();
        for (const folder of ["journal", "spool"]) {
            expect(((await stat(join(dataDir, folder))).mode & 0o777).toString(8), folder).to.equal("700");
        }
        expect(await readdir(dataDir)).to.have.members(["journal", "spool"]);
    });
});
