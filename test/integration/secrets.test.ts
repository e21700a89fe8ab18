import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import { LevelStore } from "../../src/store/level.ts";
import { JOBS, jobFrom } from "../../src/uploads/job-records.ts";
import { compiledDriver } from "../support/compiled-driver.ts";
import type { CanaryItem, CanaryPlan } from "../support/canary-driver.ts";
import { readable } from "../support/crypto.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { AS_TOKEN } from "../support/world.ts";

const run = promisify(execFile);

/** Words that appear nowhere else. */
const CANARIES = {
    header: "canary-header-Zx81",
    query: "canary-query-Zx82",
    redirect: "canary-redirect-Zx83",
    answer: "canary-answer-Zx84",
    /** Of all functions that are the bridge's own. */
    connector: "canary-connector-Zx85",
    path: "canary-path-Zx86",
    content: "canary-content-Zx87",
};

/** What the journal keeps of jobs that are over; a failed one keeps what it needs to be tried again. */
async function endedJobs(dataDir: string): Promise<string> {
    const store = new LevelStore(join(dataDir, "journal"));
    await store.open(() => {});
    const ended = [];
    for await (const [, record] of store.range({ collection: JOBS })) {
        if (jobFrom(record).state !== "failed") ended.push(record);
    }
    await store.close();
    expect(ended).to.have.length(1);
    return JSON.stringify(ended);
}

describe("secrets", () => {
    let scene: Scene;
    beforeEach(async () => {
        scene = await openScene();
    });
    afterEach(() => closeScene(scene));

    const headers = { authorization: `Bearer ${CANARIES.header}`, "x-api-key": CANARIES.header };
    const query = `?X-Amz-Signature=${CANARIES.query}&token=${CANARIES.query}`;
    const answering = (path: string, answer: Parameters<Scene["remote"]["on"]>[1]): CanaryItem["source"] => ({
        kind: "http",
        url: scene.remote.on(path, answer) + query,
        headers,
    });

    /** Everything that a process with these sources writes. */
    function writtenWith(
        sources: readonly CanaryItem["source"][],
        allowPrivateAddresses = true,
        more: Pick<CanaryPlan, "encryption" | "quotedFile"> = {},
    ): Promise<string> {
        return written({ items: sources.map((source) => ({ source })), allowPrivateAddresses, ...more });
    }

    async function written(given: Pick<CanaryPlan, "items"> & Partial<CanaryPlan>): Promise<string> {
        const { world, alice, roomId } = scene;
        const plan: CanaryPlan = {
            homeserverUrl: world.homeserver.url,
            accessToken: AS_TOKEN,
            dataDir: world.dataDir,
            bot: world.bot,
            sender: alice,
            roomId,
            secret: CANARIES.connector,
            allowPrivateAddresses: true,
            ...given,
        };
        const { stdout, stderr } = await run(
            process.execPath,
            [compiledDriver("canary-driver"), JSON.stringify(plan)],
            {
                maxBuffer: 64 * 2 ** 20,
            },
        );
        expect(stdout).to.contain("the end");
        return stdout + stderr;
    }

    function expectNone(text: string): void {
        for (const [name, canary] of Object.entries({ ...CANARIES, AS_TOKEN })) {
            const at = text.indexOf(canary);
            expect(at, `${name}: …${text.slice(Math.max(0, at - 300), at + 100)}…`).to.equal(-1);
        }
    }

    it("appear in nothing that the process writes, whatever the source does", async function () {
        this.timeout(60_000);
        const { remote } = scene;
        const bytes = someBytes(1000);
        const refusing = (status: number) =>
            answering(`/${status}`, (_request, response) => {
                response.writeHead(status, { "www-authenticate": CANARIES.answer }).end(`no: ${CANARIES.answer}`);
            });
        const text = await writtenWith([
            answering("/good", (_request, response) => response.writeHead(200, { "content-length": 1000 }).end(bytes)),
            ...[400, 401, 403, 404, 410, 429, 500, 503].map(refusing),
            answering("/moved", (_request, response) => {
                response.writeHead(302, { location: `${remote.url}/404?sig=${CANARIES.redirect}` }).end();
            }),
            answering("/downgraded", (_request, response) => {
                response
                    .writeHead(302, { location: `ftp://user:${CANARIES.redirect}@${CANARIES.redirect}.example/` })
                    .end();
            }),
            answering("/loop", (_request, response) => {
                response.writeHead(302, { location: `/loop?sig=${CANARIES.redirect}` }).end();
            }),
            answering("/page", (_request, response) => {
                response.writeHead(200, { "content-type": "text/html" }).end(`<html>${CANARIES.answer}</html>`);
            }),
            answering("/cut", (_request, response) => {
                response.writeHead(200, { "content-length": 1000 }).write(bytes.subarray(0, 10));
                setTimeout(() => response.destroy(), 10);
            }),
            answering("/silent", () => {}),
            { kind: "http", url: `http://user:${CANARIES.query}@127.0.0.1:1/x${query}`, headers },
            { kind: "http", url: `http://nowhere.invalid/x${query}`, headers },
            { kind: "connector", connector: "secretive", ref: { token: CANARIES.connector } },
            { kind: "connector", connector: "quoting", ref: null },
            { kind: "connector", connector: "missing", ref: CANARIES.connector },
        ]);
        expectNone(text);
        expectNone(await endedJobs(scene.world.dataDir));
        const events = scene.world.homeserver.events(scene.roomId);
        expectNone(JSON.stringify(events));
    });

    it("appear in nothing by whatever way a file is given, nor when the bridge's own functions fail", async function () {
        this.timeout(60_000);
        const { remote, world } = scene;
        const folder = join(world.dataDir, CANARIES.path);
        await mkdir(folder);
        await writeFile(join(folder, "cat.jpg"), `{"token":"${CANARIES.content}"}`);
        const everyWay = true;
        const text = await written({
            closedRoomId: await world.room(),
            items: [
                { everyWay, source: { kind: "http", url: remote.file(someBytes(1000)) + query, headers } },
                {
                    everyWay,
                    source: answering("/refusing", (_request, response) => {
                        response.writeHead(403, { "www-authenticate": CANARIES.answer }).end(CANARIES.answer);
                    }),
                },
                { everyWay, source: { kind: "file", path: join(folder, "missing.jpg") } },
                { everyWay, source: { kind: "file", path: join(folder, "cat.jpg") } },
                { source: { kind: "connector", connector: "throwing", ref: { token: CANARIES.connector } } },
            ],
        });
        expectNone(text);
        for (const said of [
            "A sender could not be brought into its room",
            "A connector's public link could not be had",
            "onFailure gave no answer",
            "A listener of job events threw",
            "edited {",
            "pictured 'mxc:",
            "SOURCE_FORBIDDEN",
            "SOURCE_NOT_FOUND",
            "SOURCE_TYPE_MISMATCH",
        ]) {
            expect(text).to.contain(said);
        }
        expectNone(JSON.stringify(world.homeserver.events(scene.roomId)));
    });

    it("appear in nothing when large files go through their own thread", async function () {
        this.timeout(60_000);
        const bytes = someBytes(2 * 2 ** 20);
        const size = bytes.length;
        const announced = { "content-length": size };
        const text = await written({
            items: [
                answering("/large", (_request, response) => response.writeHead(200, announced).end(bytes)),
                answering("/cut", (_request, response) => {
                    response.writeHead(200, announced).write(bytes.subarray(0, 2 ** 20));
                    setTimeout(() => response.destroy(), 10);
                }),
                answering("/moved", (_request, response) => {
                    response.writeHead(302, { location: `ftp://user:${CANARIES.redirect}@a.example/` }).end();
                }),
                answering("/refusing", (_request, response) => response.writeHead(403).end(CANARIES.answer)),
                answering(
                    "/garbage",
                    (request) => void request.socket.end(`${CANARIES.answer} ${request.url}\r\n\r\n`),
                ),
            ].map((source) => ({ source, size })),
        });
        expectNone(text);
        expect(text).to.contain("done {").and.to.contain("SOURCE_FORBIDDEN");
        expectNone(await endedJobs(scene.world.dataDir));
    });

    it("appear in nothing when files are looked at before their messages", async function () {
        this.timeout(60_000);
        const { remote, world } = scene;
        const path = join(world.dataDir, "cat.jpg");
        await writeFile(path, `{"token":"${CANARIES.content}"}`);
        const sources: CanaryItem["source"][] = [
            { kind: "http", url: remote.file(someBytes(1000)) + query, headers },
            { kind: "http", url: remote.file(someBytes(1001)) + query, headers },
            answering("/gone", (_request, response) => response.writeHead(404).end(CANARIES.answer)),
            answering("/broken", (request) => void request.socket.destroy()),
            { kind: "file", path },
            { kind: "connector", connector: "throwing", ref: { token: CANARIES.connector } },
            { kind: "connector", connector: "quoting", ref: { token: CANARIES.connector } },
        ];
        const text = await written({ items: sources.map((source) => ({ source, probeHeaders: true })) });
        expectNone(text);
        for (const said of [
            "describe() failed",
            "A file could not be probed",
            "A connector's public link could not be had",
            "detail: 'GET https://files.example/x?… with Bearer …",
        ]) {
            expect(text).to.contain(said);
        }
    });

    it("appear in nothing when the address is refused", async function () {
        this.timeout(30_000);
        const text = await writtenWith(
            [
                {
                    kind: "http",
                    url: `${scene.remote.url}/x?sig=${CANARIES.query}`,
                    headers: { cookie: CANARIES.header },
                },
            ],
            false,
        );
        expectNone(text);
    });

    for (const encryption of ["spool", "two-pass"] as const) {
        it(`keys of encrypted files (${encryption}) are in no log, error, metric or listing`, async function () {
            this.timeout(60_000);
            const { world, remote, roomId } = scene;
            const http = (url: string) => ({ kind: "http", url }) as const;
            const file = http(remote.file(someBytes(3000)));
            const cut = remote.on("/cut", (_request, response) => {
                response.writeHead(200, { "content-length": 1000 }).write(someBytes(10));
                setTimeout(() => response.destroy(), 10);
            });
            const quotedFile = join(world.dataDir, "quoted.json");
            // The second and the fourth event never get through: their crypto fails and says what it was given.
            const sources = [file, file, http(cut), file, http(`${remote.url}/gone`)];
            const text = await writtenWith(sources, true, { encryption, quotedFile });
            const sent = JSON.stringify(readable(world.homeserver, roomId));
            const secrets = [...(sent + (await readFile(quotedFile, "utf8"))).matchAll(/"(?:k|iv)":"([\w+/-]+)"/g)];
            expect(secrets.length, "keys and IVs").to.be.at.least(4);
            for (const [, secret = ""] of secrets) {
                const bytes = Buffer.from(secret, "base64");
                for (const shown of [
                    secret,
                    ...(["base64", "base64url", "hex"] as const).map((as) => bytes.toString(as)),
                ]) {
                    const at = text.indexOf(shown);
                    expect(at, `…${text.slice(Math.max(0, at - 300), at + 100)}…`).to.equal(-1);
                }
            }
            expect(text).to.contain("ENCRYPTION_UNAVAILABLE");
        });
    }
});
