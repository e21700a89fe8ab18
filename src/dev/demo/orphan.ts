import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

/**
 * `kill -9` of npm leaves what npm has started behind: the demo would run on unseen and keep its folder from the next
 * start. So it looks for npm among its ancestors, and calls `onOrphaned` when that one is gone.
 */
export async function watchForOrphaning(onOrphaned: () => void): Promise<void> {
    if (process.env["npm_lifecycle_event"] === undefined) return;
    const npm = await npmProcess();
    if (npm === undefined) return;
    const watch = setInterval(() => {
        if (isRunning(npm)) return;
        clearInterval(watch);
        onOrphaned();
    }, POLL_MS);
    watch.unref();
}

const POLL_MS = 250;
/** npm, a shell, tsx, and one to spare. */
const MAX_GENERATIONS = 4;

async function npmProcess(): Promise<number | undefined> {
    let pid = process.ppid;
    for (let generation = 0; generation < MAX_GENERATIONS && pid > 1; generation++) {
        const { parent, command } = await describe(pid);
        if (/\bnpm(?:-cli\.js)?\b/.test(command)) return pid;
        pid = parent;
    }
    return undefined;
}

interface Description {
    readonly parent: number;
    readonly command: string;
}

/** Where neither tells, there is nothing to watch. */
async function describe(pid: number): Promise<Description> {
    try {
        return await (process.platform === "linux" ? describeByProc(pid) : describeByPs(pid));
    } catch {
        return { parent: 0, command: "" };
    }
}

async function describeByProc(pid: number): Promise<Description> {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8");
    return { parent: Number(/^PPid:\s*(\d+)/m.exec(status)?.[1]), command: command.replaceAll("\0", " ") };
}

async function describeByPs(pid: number): Promise<Description> {
    const { stdout } = await promisify(execFile)("ps", ["-o", "ppid=,args=", "-p", String(pid)]);
    const [, parent, command = ""] = /^\s*(\d+)\s+(.*)/.exec(stdout) ?? [];
    return { parent: Number(parent), command };
}

function isRunning(pid: number): boolean {
    try {
        process.kill(pid, 0);
        return true;
    } catch {
        return false;
    }
}
