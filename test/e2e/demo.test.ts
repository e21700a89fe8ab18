import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { checkOrder } from "../../src/dev/demo/order.ts";
import { ghostId } from "../../src/dev/demo/registration.ts";
import { formatBytes, median, parseBytes } from "../../src/dev/demo/units.ts";
import { startHomeserver } from "../../src/dev/homeserver/index.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const REPORT_KEYS = [
    "messages",
    "media",
    "bytes",
    "outOfOrder",
    "missing",
    "mismatched",
    "failed",
    "textSendMsP50",
    "mediaSendMsP50",
    "peakRssMb",
    "seconds",
];
/** Messages and files of the three sample rooms, as `script.ts` has them. */
const SAMPLE = { messages: 24, media: 12 };
/** Long enough to be caught in the middle, at 8 MiB a second. */
const SLOW_VIDEO = ["--video-size", "12MiB", "--pause", "50"];
const QUICK = ["--video-size", "1MiB", "--pause", "10"];

const DIRECTLY = [process.execPath, "--import=./scripts/typescript.mjs", "src/dev/demo/main.ts"] as const;
const BY_NPM = ["npm", "start", "--"] as const;

/** One run of the demo as a process of its own. */
class Demo {
    readonly #process: ChildProcess;
    readonly ended: Promise<number | NodeJS.Signals | null>;
    stdout = "";
    stderr = "";

    constructor(args: readonly string[], [program, ...before]: readonly [string, ...string[]] = DIRECTLY) {
        this.#process = spawn(program, [...before, ...args], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
        this.#process.stdout?.on("data", (chunk: Buffer) => (this.stdout += chunk.toString()));
        this.#process.stderr?.on("data", (chunk: Buffer) => (this.stderr += chunk.toString()));
        this.ended = once(this.#process, "close").then(() => this.#process.exitCode ?? this.#process.signalCode);
    }

    kill(signal: NodeJS.Signals): void {
        this.#process.kill(signal);
    }

    /** Resolves when stdout holds `text`. */
    async says(text: string): Promise<void> {
        while (!this.stdout.includes(text)) {
            const goesOn = Promise.race([
                once(this.#process.stdout ?? this.#process, "data").then(() => true),
                this.ended.then(() => false),
            ]);
            if (!(await goesOn) && !this.stdout.includes(text)) {
                throw new Error(`ended without saying ${text}:\n${this.stdout}${this.stderr}`);
            }
        }
    }
}

type Report = Readonly<Record<string, number | null>>;

async function onceAsJson(args: readonly string[]): Promise<{ code: unknown; report: Report; stderr: string }> {
    const demo = new Demo(["--once", "--json", ...args]);
    const code = await demo.ended;
    expect(demo.stdout, demo.stderr).to.match(/^\{[^\n]*\}\n$/);
    const report: Report = JSON.parse(demo.stdout);
    return { code, report, stderr: demo.stderr };
}

/** Paths of all files below, relative. */
async function filesBelow(folder: string): Promise<string[]> {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

describe("npm start", function () {
    this.timeout(90_000);
    let folder: string;
    let data: string;
    const running: Demo[] = [];

    function start(args: readonly string[], by: readonly [string, ...string[]] = DIRECTLY): Demo {
        const demo = new Demo(["--data", data, ...args], by);
        running.push(demo);
        return demo;
    }

    beforeEach(async () => {
        folder = await mkdtemp(join(tmpdir(), "demo-"));
        data = join(folder, "data");
    });

    afterEach(async () => {
        for (const demo of running.splice(0)) {
            demo.kill("SIGKILL");
            await demo.ended;
        }
        await rm(folder, { recursive: true, force: true });
    });

    it("transfers the three sample rooms, and again finds them as they are", async () => {
        const first = await onceAsJson(["--data", data, ...QUICK]);
        expect(first.stderr).to.equal("");
        expect(Object.keys(first.report)).to.deep.equal(REPORT_KEYS);
        expect(first.report).to.include({ ...SAMPLE, outOfOrder: 0, missing: 0, mismatched: 0, failed: 0 });
        expect(first.report["bytes"]).to.be.greaterThan(2 ** 20);
        expect(first.report["textSendMsP50"]).to.be.greaterThan(0);
        expect(first.report["mediaSendMsP50"]).to.be.greaterThan(0);
        expect(first.code).to.equal(0);
        const state = await readFile(join(data, "demo.json"), "utf8");
        expect((await stat(join(data, "demo.json"))).mode & 0o777).to.equal(0o600);

        const second = await onceAsJson(["--data", data, ...QUICK]);
        expect(second.report).to.include({ ...SAMPLE, outOfOrder: 0, missing: 0, mismatched: 0, failed: 0 });
        expect(second.report).to.include({ textSendMsP50: null, mediaSendMsP50: null });
        expect(second.report["bytes"]).to.equal(first.report["bytes"]);
        expect(second.code).to.equal(0);
        expect(await readFile(join(data, "demo.json"), "utf8"), "rooms are used again").to.equal(state);
    });

    it("tells a file that is not what the network has", async () => {
        expect(await onceAsJson(["--data", data, ...QUICK])).to.have.property("code", 0);
        const video = await readFile(join(ROOT, "src/dev/sample-media/sun-goes-down.mp4"));
        for (const path of await filesBelow(join(data, "homeserver"))) {
            const bytes = await readFile(path);
            if (!bytes.equals(video)) continue;
            bytes[1000] = (bytes[1000] ?? 0) ^ 1;
            await writeFile(path, bytes);
        }
        const { report, code } = await onceAsJson(["--data", data, ...QUICK]);
        expect(report).to.include({ outOfOrder: 0, missing: 0, mismatched: 1, failed: 0 });
        expect(code).to.equal(1);
    });

    it("takes a folder of one's own files with --media", async () => {
        const own = join(folder, "own files");
        await mkdir(join(own, "deep", "er"), { recursive: true });
        await writeFile(join(own, "notes.txt"), "to read");
        await writeFile(join(own, "nothing.bin"), "");
        await writeFile(join(own, "deep", "er", "ночь 夜 #1?.jpg"), Buffer.alloc(300_000, 7));
        const { report, code } = await onceAsJson(["--data", data, "--media", own]);
        // A text for each of the two folders with files, and one at the end.
        expect(report).to.include({
            messages: 6,
            media: 3,
            bytes: 300_007,
            outOfOrder: 0,
            missing: 0,
            mismatched: 0,
            failed: 0,
        });
        expect(code).to.equal(0);

        await writeFile(join(own, "a new one.txt"), "first by its name");
        const again = await onceAsJson(["--data", data, "--media", own]);
        expect(again.report).to.include({ messages: 7, media: 4, outOfOrder: 0, missing: 0, mismatched: 0, failed: 0 });
        expect(again.code).to.equal(0);
    });

    it("goes on after kill -9 in the middle of a transfer", async () => {
        const demo = start(SLOW_VIDEO);
        await demo.says("video-crossing.mp4: 25 %");
        demo.kill("SIGKILL");
        expect(await demo.ended).to.equal("SIGKILL");
        const { report, code } = await onceAsJson(["--data", data, ...SLOW_VIDEO]);
        expect(report).to.include({ ...SAMPLE, outOfOrder: 0, missing: 0, mismatched: 0, failed: 0 });
        expect(code).to.equal(0);
    });

    it("does not live on behind a killed npm, and goes on after that too", async () => {
        const demo = start(SLOW_VIDEO, BY_NPM);
        await demo.says("video-crossing.mp4: 25 %");
        demo.kill("SIGKILL");
        // Its output closes only with the last process that npm has left behind.
        expect(await demo.ended).to.equal("SIGKILL");
        expect(demo.stdout).to.contain("Stopped.");
        const { report, code } = await onceAsJson(["--data", data, ...SLOW_VIDEO]);
        expect(report).to.include({ ...SAMPLE, outOfOrder: 0, missing: 0, mismatched: 0, failed: 0 });
        expect(code).to.equal(0);
    });

    it("shows what is said behind the large video before the video is there", async () => {
        const demo = start([...SLOW_VIDEO, "--once"]);
        expect(await demo.ended).to.equal(0);
        const said = demo.stdout.indexOf("See you at seven!");
        expect(said).to.be.greaterThan(demo.stdout.indexOf("The whole crossing from last year"));
        expect(said).to.be.lessThan(demo.stdout.indexOf("✓ video-crossing.mp4"));
        expect(demo.stdout).to.contain("every message is in its room once");
    });

    it("stays until Ctrl-C, and ends without a word of complaint", async () => {
        const demo = start(QUICK);
        await demo.says("until Ctrl-C");
        demo.kill("SIGINT");
        expect(await demo.ended).to.equal(0);
        expect(demo.stderr).to.equal("");
    });

    it("ends cleanly on Ctrl-C in the middle of a transfer, and goes on at the next start", async () => {
        const demo = start(SLOW_VIDEO);
        await demo.says("video-crossing.mp4: 25 %");
        demo.kill("SIGINT");
        // A terminal and npm both pass it on.
        demo.kill("SIGINT");
        expect(await demo.ended).to.equal(0);
        expect(demo.stderr).to.equal("");
        const { report, code } = await onceAsJson(["--data", data, ...SLOW_VIDEO]);
        expect(report).to.include({ ...SAMPLE, outOfOrder: 0, missing: 0, mismatched: 0, failed: 0 });
        expect(code).to.equal(0);
    });

    it("refuses a second demo on the same data folder", async () => {
        const demo = start(QUICK);
        await demo.says("until Ctrl-C");
        const second = start(["--once", ...QUICK]);
        expect(await second.ended).to.equal(1);
        expect(second.stderr).to.match(/^Port \d+ .*--data.*\n$/);
        expect(second.stdout).to.equal("");
    });

    it("works on a homeserver that runs elsewhere, with a registration file", async () => {
        const homeserver = await startHomeserver({
            serverName: "matrix.example",
            appservices: [
                {
                    id: "demo",
                    asToken: "a-token",
                    senderLocalpart: "demo_bot",
                    userNamespaces: ["@demo_.*:matrix\\.example"],
                },
            ],
        });
        try {
            const registration = join(folder, "registration.yaml");
            const yaml = `id: demo\nas_token: a-token\nhs_token: b\nsender_localpart: demo_bot\nurl: null\n`;
            await writeFile(
                registration,
                `${yaml}namespaces:\n  users:\n    - { exclusive: true, regex: '@demo_.*:matrix\\.example' }\n`,
            );
            const args = [
                "--data",
                data,
                "--homeserver",
                `${homeserver.url}/`,
                "--registration",
                registration,
                ...QUICK,
            ];
            const { report, code, stderr } = await onceAsJson(args);
            expect(stderr).to.equal("");
            expect(report).to.include({ ...SAMPLE, outOfOrder: 0, missing: 0, mismatched: 0, failed: 0 });
            expect(code).to.equal(0);
        } finally {
            await homeserver.close();
        }
    });

    it("counts files that cannot come, and shows what their messages say instead", async () => {
        const homeserver = await startHomeserver({
            appservices: [{ id: "demo", asToken: "a-token", senderLocalpart: "bot", userNamespaces: ["@demo_.*"] }],
            maxUploadBytes: 100_000,
        });
        try {
            const registration = join(folder, "registration.yaml");
            const yaml = "as_token: a-token\nsender_localpart: bot\nnamespaces: { users: [{ regex: '@demo_.*' }] }\n";
            await writeFile(registration, yaml);
            const args = ["--homeserver", homeserver.url, "--registration", registration, ...QUICK];
            const demo = start(["--once", ...args]);
            expect(await demo.ended, demo.stderr).to.equal(0);
            expect(demo.stdout).to.contain("✗ video-crossing.mp4");
            expect(demo.stdout).to.match(/\(edited\) video-crossing\.mp4 .* The whole crossing/);
            const { report, code } = await onceAsJson(["--data", data, ...args]);
            expect(report).to.include({ ...SAMPLE, outOfOrder: 0, missing: 0, mismatched: 0, failed: 1 });
            expect(code).to.equal(0);
        } finally {
            await homeserver.close();
        }
    });

    const wrong: readonly (readonly [string, readonly string[]])[] = [
        ["--nonsense", ["--nonsense"]],
        ["--json", ["--json"]],
        ["--video-size", ["--video-size", "huge"]],
        ["--pause", ["--pause", "-1"]],
        ["--homeserver", ["--homeserver", "ftp://example.org", "--registration", "x.yaml"]],
        ["--registration", ["--homeserver", "http://127.0.0.1:1"]],
        ["--registration", ["--homeserver", "http://127.0.0.1:1", "--registration", "/does/not/exist.yaml"]],
        ["--media", ["--media", "/does/not/exist"]],
        ["--invite", ["--invite", "alice"]],
        ["stray", ["stray"]],
    ];
    for (const [named, args] of wrong) {
        it(`refuses ${args.join(" ")} with a sentence that names ${named}`, async () => {
            const demo = start(args);
            expect(await demo.ended).to.equal(2);
            expect(demo.stdout).to.equal("");
            expect(demo.stderr).to.contain(named);
            expect(demo.stderr.trimEnd().split("\n")).to.have.length(1);
        });
    }

    it("explains itself with --help", async () => {
        const demo = start(["--help"]);
        expect(await demo.ended).to.equal(0);
        for (const name of [
            "--media",
            "--homeserver",
            "--registration",
            "--once",
            "--json",
            "--data",
            "--video-size",
        ]) {
            expect(demo.stdout).to.contain(name);
        }
        for (const key of REPORT_KEYS) expect(demo.stdout).to.contain(key);
    });
});

describe("the demo's comparison of order", () => {
    const cases: readonly (readonly [string, readonly string[], readonly string[], number, number])[] = [
        ["nothing", [], [], 0, 0],
        ["the same", ["a", "b", "c"], ["a", "b", "c"], 0, 0],
        ["one that came late", ["a", "b", "c", "d"], ["b", "c", "d", "a"], 1, 0],
        ["everything turned round", ["a", "b", "c"], ["c", "b", "a"], 2, 0],
        ["one twice", ["a", "b"], ["a", "b", "a"], 1, 0],
        ["one twice in a row", ["a", "b"], ["a", "a", "b"], 1, 0],
        ["one missing", ["a", "b", "c"], ["a", "c"], 0, 1],
        ["all missing", ["a", "b"], [], 0, 2],
        ["messages of others", ["a", "b"], ["x", "a", "y", "b"], 0, 0],
    ];
    for (const [name, expected, seen, outOfOrder, missing] of cases) {
        it(`counts ${name}`, () => {
            expect(checkOrder(expected, seen)).to.deep.equal({ outOfOrder, missing });
        });
    }
});

function ghost(...userNamespaces: string[]): string {
    return ghostId({ userNamespaces }, "ines", "example.org");
}

describe("the demo's small words", () => {
    it("reads and writes sizes", () => {
        expect(["64MiB", "1.5 kB", "500000", "2gib", "1 b"].map(parseBytes)).to.deep.equal([
            2 ** 26,
            1500,
            500_000,
            2 ** 31,
            1,
        ]);
        expect(["", "MiB", "-1", "1 parsec", "1e9"].map(parseBytes)).to.deep.equal(Array(5).fill(undefined));
        expect([0, 999, 1000, 95_415, 999_999, 2 ** 26].map(formatBytes)).to.deep.equal([
            "0 B",
            "999 B",
            "1.0 kB",
            "95 kB",
            "1.0 MB",
            "67 MB",
        ]);
    });

    it("finds the middle value", () => {
        expect(median([])).to.equal(null);
        expect(median([5, 1, 3])).to.equal(3);
        expect(median([4, 1, 3, 2])).to.equal(2.5);
    });

    it("makes ghosts that fit the registration's namespaces", () => {
        expect(ghost("@slack_.*")).to.equal("@slack_ines:example.org");
        expect(ghost("@slack_.+:example\\.org")).to.equal("@slack_ines:example.org");
        expect(ghost("^@_remote\\._[a-z]+:example\\.org$")).to.equal("@_remote._ines:example.org");
        expect(ghost("@other_.*:elsewhere", "@b_.*")).to.equal("@b_ines:example.org");
        expect(() => ghost("@one:example\\.org")).to.throw("--registration");
    });
});
