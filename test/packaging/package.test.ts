import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";
import { download, messages } from "../support/download.ts";
import { pack } from "../support/pack.ts";
import { type Remote, sha256, someBytes, startRemote } from "../support/remote.ts";
import { AS_TOKEN, openWorld, type World } from "../support/world.ts";
import { COMPILERS, type Compiler, type ModuleKind, newProject, type Project } from "./project.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const GHOST = "@slack_alice:example.org";

/** Uses what a bridge may: it only has to compile. */
const TYPES = `
import { BridgeMedia, ERRORS, MediaError, type BridgeMediaOptions, type ByteStream, type Connector, type ErrorCode,
    type FailureTexts, type JobInfo, type JobState, type Logger, type RemoteMessage, type SentMessage,
    type Store as AnyStore } from "matrix-bridge-media";
import { certify, connectorContract, sourceContract, storeContract, type CertificationReport, type ConnectorModule,
    type ContractCase, type Store, type StoreModule } from "matrix-bridge-media/testing";

export const code: ErrorCode = new MediaError("CLOSED").code;
export const retryable: boolean = ERRORS.CLOSED.retryable;
export const connector: Connector = { open: async (_ref, { offset, signal }) => { throw [offset, signal]; } };
export const options: BridgeMediaOptions = { dataDir: "d", connectors: { connector }, timeLimits: { idleMs: 1000 } };
export const stores: (store: AnyStore) => Store = (store) => store;
export const streams: (stream: ByteStream) => () => unknown = (stream) => () => stream.destroy();
export const texts: FailureTexts = { default: "{name}: {reason}", reasons: { CANCELLED: ERRORS.CANCELLED.room } };
export const logger: Logger = console;
export async function use(media: BridgeMedia, message: RemoteMessage, store: Store): Promise<ContractCase[]> {
    const sent: SentMessage = await media.on("job", (job: JobInfo) => job.state satisfies JobState).send(message);
    for await (const job of media.jobs({ state: "failed" })) await media.retry(job.id);
    await sent.uploads[0]?.done;
    return [...storeContract(() => store), ...sourceContract(null!), ...connectorContract(null!)];
}
export const makeStore: StoreModule = options.store ?? ((_directory: string): Store => { throw code; });
export const certifiable: ConnectorModule = () => ({ connector, files: [{ ref: 1, bytes: new Uint8Array(1) }] });
export const report: Promise<CertificationReport> = certify({ connector: new URL("file:///c.mjs"), kills: 1 });
report.catch(() => {});
// @ts-expect-error there is no such option
export const wrong: BridgeMediaOptions = { dataDir: "d", concurency: 1 };
`;

/** One copy of the module, whichever way it is loaded. */
const ONE_COPY = `
import { BridgeMedia } from "matrix-bridge-media";
import { createRequire } from "node:module";
import { join } from "node:path";
const load = createRequire(join(process.cwd(), "package.json"));
void import("matrix-bridge-media").then((imported) => {
    const required = load("matrix-bridge-media") as { BridgeMedia: unknown };
    console.log(new Set<unknown>([BridgeMedia, imported.BridgeMedia, required.BridgeMedia]).size);
});
`;

const LARGE_BYTES = 3 * 2 ** 20;
/** Sends a large file and tells the paths that this process' own thread has asked for; warnings go to stderr. */
const LARGE_FILE = `
import { BridgeMedia } from "matrix-bridge-media";
import { subscribe } from "node:diagnostics_channel";
const { HOMESERVER_URL = "", AS_TOKEN = "", ROOM_ID = "", PHOTO_URL = "", DATA_DIR = "" } = process.env;
const asked: string[] = [];
subscribe("http.client.request.start", (message) => {
    asked.push((message as { request: { path: string } }).request.path);
});
async function main(): Promise<void> {
    const matrixClient = { homeserverUrl: HOMESERVER_URL, accessToken: AS_TOKEN };
    const getIntent = (userId = "") => ({ userId, matrixClient, ensureRegistered: async () => {} });
    const quiet = { debug() {}, info() {}, warn: console.error, error: console.error };
    const media = new BridgeMedia({ getIntent }, { dataDir: DATA_DIR, allowPrivateAddresses: true, logger: quiet });
    await media.start();
    const sent = await media.send({
        id: "large",
        roomId: ROOM_ID,
        sender: "${GHOST}",
        content: { msgtype: "m.image", body: "cat.jpg", info: { mimetype: "image/jpeg", size: ${LARGE_BYTES} } },
        media: [{ at: ["url"], source: { kind: "http", url: PHOTO_URL } }],
    });
    await sent.uploads[0]?.done;
    await media.close();
    console.log(asked.join("\\n"));
}
void main();
`;

describe("the packed package", () => {
    let directory: string;
    let tarball: string;
    let files: string[];
    let world: World;
    let remote: Remote;
    before(async function () {
        this.timeout(120_000);
        directory = await mkdtemp(join(tmpdir(), "packaging-"));
        remote = await startRemote();
        world = await openWorld({
            appservices: [
                {
                    id: "example",
                    asToken: AS_TOKEN,
                    senderLocalpart: "bot",
                    userNamespaces: ["@slack_.*:example\\.org"],
                    rateLimited: false,
                },
            ],
        });
        ({ tarball, files } = await pack(ROOT, directory));
    });
    after(async () => {
        await world.close();
        await remote.close();
        await rm(directory, { recursive: true, force: true });
    });

    it("holds what is published and nothing else", () => {
        const strange = files.filter(
            (path) =>
                !/^dist\/(?!dev\/).+\.(js|js\.map|cjs|d\.ts|d\.cts)$/.test(path) &&
                !/^docs\/.+\.md$/.test(path) &&
                !/^(package\.json|LICENSE|[A-Z]+\.md|config\.schema\.yaml|registration\.example\.yaml)$/.test(path),
        );
        expect(strange).to.deep.equal([]);
        expect(files).to.include.members([
            "README.md",
            "LICENSE",
            "config.schema.yaml",
            "dist/index.js",
            "dist/index.cjs",
            "dist/index.d.ts",
            "dist/index.d.cts",
            "dist/testing/index.cjs",
            "dist/testing/index.d.cts",
            "dist/uploads/thread/matrix-bridge-media-thread.js",
        ]);
    });

    for (const kind of ["esm", "cjs"] as const satisfies ModuleKind[]) {
        describe(`in a fresh ${kind === "esm" ? "ES module" : "CommonJS"} project`, () => {
            let project: Project;
            before(async function () {
                this.timeout(300_000);
                project = await newProject(join(directory, kind), kind, tarball);
                await project.write("example.ts", await readmeExample());
                await project.write("types.ts", TYPES);
                await project.write("one-copy.ts", ONE_COPY);
                await project.write("large-file.ts", LARGE_FILE);
            });

            for (const compiler of Object.keys(COMPILERS) as Compiler[]) {
                it(`compiles with ${compiler}, strict and libraries checked, and runs the README's example`, async function () {
                    this.timeout(120_000);
                    await project.compile(compiler);
                    await expectExample(project, compiler, join(directory, `data-${kind}-${compiler}`));
                });
            }

            if (kind === "esm") {
                it("runs the example of docs/certification.md", async function () {
                    this.timeout(300_000);
                    const store = await readFile(join(ROOT, "test/certify/log-store.mjs"), "utf8");
                    await project.write("my-store.mjs", store);
                    // Other suites run beside it: how soon work is taken up is measured where nothing does.
                    const few = (await certificationExample()).replace("kills: 200", "kills: 12, recoveryMs: 10_000");
                    await project.write("certify.mjs", few);
                    const cwd = join(directory, kind);
                    // Of a promise that was not kept, too, it is the report that tells which, and the seed to repeat it.
                    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["certify.mjs"], {
                        cwd,
                    }).catch((ended: { stdout: string; stderr: string }) => ended);
                    expect(stdout, `${stdout}${stderr}`)
                        .to.match(/^\d+ kills in /)
                        .and.to.include("Every promise was kept.");
                });
            }

            it("has the thread of large files with it", async () => {
                const bytes = someBytes(LARGE_BYTES);
                const photo = remote.file(bytes);
                const roomId = await world.room(GHOST);
                const { stdout, stderr } = await project.run("typescript-5", "large-file.js", {
                    HOMESERVER_URL: world.homeserver.url,
                    AS_TOKEN,
                    ROOM_ID: roomId,
                    PHOTO_URL: photo,
                    DATA_DIR: join(directory, `data-${kind}-large`),
                });
                expect(stderr).to.equal("");
                const mxc = String(messages(world.homeserver, roomId)[0]?.content["url"]);
                expect((await download(world.homeserver, mxc)).body.equals(bytes)).to.equal(true);
                expect(stdout).to.include("/send/m.room.message/").and.not.to.include(new URL(photo).pathname);
                expect(stdout).not.to.include("/upload/");
            });

            it("is one module, required or imported, and loads without a warning", async () => {
                const { stdout, stderr } = await project.run("typescript-5", "one-copy.js");
                expect({ stdout, stderr }).to.deep.equal({ stdout: "1\n", stderr: "" });
            });
        });
    }

    async function expectExample(project: Project, compiler: Compiler, dataDir: string): Promise<void> {
        const bytes = someBytes(100_000);
        const roomId = await world.room(GHOST);
        const { stdout, stderr } = await project.run(compiler, "example.js", {
            HOMESERVER_URL: world.homeserver.url,
            AS_TOKEN,
            ROOM_ID: roomId,
            PHOTO_URL: remote.file(bytes),
            DATA_DIR: dataDir,
        });
        expect(stderr).to.equal("");
        const [event] = messages(world.homeserver, roomId);
        const mxc = String(event?.content["url"]);
        expect(stdout).to.include(String(event?.event_id)).and.to.include(mxc);
        expect(event?.sender).to.equal(GHOST);
        expect(sha256((await download(world.homeserver, mxc)).body)).to.equal(sha256(bytes));
    }
});

async function readmeExample(): Promise<string> {
    const readme = await readFile(join(ROOT, "README.md"), "utf8");
    const [, example] = /^<!-- example: embed -->\n+```ts\n(.*?)^```$/ms.exec(readme) ?? [];
    if (example === undefined) throw new Error("README.md has no example to embed");
    return example;
}

async function certificationExample(): Promise<string> {
    const page = await readFile(join(ROOT, "docs/certification.md"), "utf8");
    const [, example] = /^<!-- example: certify -->\n+```js\n(.*?)^```$/ms.exec(page) ?? [];
    if (example === undefined) throw new Error("docs/certification.md has no example");
    return example;
}
