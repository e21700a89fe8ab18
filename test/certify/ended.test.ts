import { type ChildProcess, execFileSync, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { compiled } from "../../scripts/compiled.ts";
import type * as Kit from "../../src/testing/index.ts";
import type { DriverSetup, Order } from "../support/faults/driver.ts";
import { until } from "../support/until.ts";

/** A certification that is ended before it is through, and what it must not leave behind. */
const root = fileURLToPath(new URL("../..", import.meta.url));
const stuck = new URL("stuck-store.mjs", import.meta.url);

describe("a certification that is ended", function () {
    this.timeout(120_000);
    let built: URL;
    let folder: string;
    let env: NodeJS.ProcessEnv;
    const started: ChildProcess[] = [];
    before(() => (built = compiled()));
    beforeEach(async () => {
        folder = await mkdtemp(join(tmpdir(), "ended-"));
        env = { ...process.env, TMPDIR: folder };
    });
    afterEach(async () => {
        for (const child of started.splice(0)) child.kill("SIGKILL");
        await rm(folder, { recursive: true, force: true });
    });

    function start(args: readonly string[]): { child: ChildProcess; output: () => string } {
        const child = spawn(process.execPath, args, { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
        started.push(child);
        let text = "";
        child.stdout?.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        return { child, output: () => text };
    }

    /** The drivers and storages that it runs, once it has seen a driver at work. */
    async function processesOf({ pid }: ChildProcess): Promise<number[]> {
        const isAtWork = async (): Promise<boolean> => {
            const folders = (await readdir(folder)).filter((name) => /^certify-(?!store|journal)/.test(name));
            const inside = await Promise.all(folders.map((name) => readdir(join(folder, name)).catch(() => [])));
            return inside.flat().includes("journal");
        };
        await until(isAtWork, { limitMs: 60_000, what: "a life" });
        return execFileSync("ps", ["-A", "-o", "pid=,ppid=,args="], { encoding: "utf8" })
            .split("\n")
            .filter(
                (line) => Number(line.trim().split(/\s+/)[1]) === pid && /driver\.js|storage-process\.js/.test(line),
            )
            .map((line) => Number(line.trim().split(/\s+/)[0]));
    }

    function areGone(pids: readonly number[]): boolean {
        return pids.every((pid) => {
            try {
                process.kill(pid, 0);
                return false;
            } catch {
                return true;
            }
        });
    }

    for (const [signal, code] of [
        ["SIGTERM", 143],
        ["SIGINT", 130],
    ] as const)
        it(`by ${signal} tells what it has found, and leaves no process and no folder`, async () => {
            const args = ["--import=./scripts/typescript.mjs", "scripts/certify.ts", "--seed", "1"];
            const { child, output } = start(args);
            const pids = await processesOf(child);
            expect(pids).to.have.length.at.least(3);
            const ended = once(child, "close");
            child.kill(signal);
            expect(await ended).to.deep.equal([code, null]);
            expect(output()).to.match(/ended early: \d+ kills, 0 findings/);
            expect(areGone(pids)).to.equal(true);
            expect((await readdir(folder)).filter((name) => name.startsWith("certify-"))).to.deep.equal([]);
            expect((await readdir(join(root, ".tmp"))).join()).not.to.include(`compiled-${child.pid}-`);
        });

    it("by SIGKILL leaves no process, not even one that has work to do", async () => {
        const script = `const { certify } = await import("${new URL("testing/index.js", built).href}");
            await certify();`;
        const { child } = start(["--input-type=module", "--eval", script]);
        const pids = await processesOf(child);
        expect(pids).not.to.have.length(0);
        child.kill("SIGKILL");
        await until(() => areGone(pids), { what: "an end of its processes" });
    });

    it("by its signal rejects at once, in the middle of a life", async () => {
        const kit = (await import(new URL("testing/index.js", built).href)) as typeof Kit;
        const ending = new AbortController();
        setTimeout(() => ending.abort(new Error("enough")), 1500);
        const began = Date.now();
        // Its first life waits for an event, which never comes.
        const options = { seed: 4, parallel: 1, store: stuck, signal: ending.signal };
        const error: unknown = await kit.certify(options).catch((error: unknown) => error);
        expect(String(error)).to.equal("Error: enough");
        expect(Date.now() - began).to.be.below(10_000);
    });

    it("takes the bridges of the fault matrix with it", async () => {
        const setup: DriverSetup = {
            homeserverUrl: "http://127.0.0.1:9",
            bot: "@bot:example.org",
            options: { dataDir: join(folder, "data") },
        };
        const driver = fileURLToPath(new URL("../support/faults/driver.ts", import.meta.url));
        const execArgv = [`--import=${join(root, "scripts/typescript.mjs")}`];
        const child = fork(driver, [JSON.stringify(setup)], { execArgv, silent: true });
        started.push(child);
        await once(child, "message");
        // Nobody answers, so it has something to do for long.
        const message = { id: "m1", roomId: "!room:example.org", sender: setup.bot, content: { body: "text" } };
        child.send({ id: 1, do: "send", message } satisfies Order);
        const ended = once(child, "exit");
        child.disconnect();
        expect(await ended).to.deep.equal([0, null]);
    });
});
