import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

/**
 * Fails system calls of another process from outside, from now until it is mended: strace's fault injection. It needs the
 * package `strace` and the right to trace one's own children.
 */
export interface BrokenDisk {
    /** Calls that it has failed so far. */
    readonly hits: number;
    mend(): Promise<void>;
}

export interface Breakage {
    /** `write,fdatasync` */
    readonly calls: string;
    /** Undefined only watches. */
    readonly error?: "EIO" | "ENOSPC" | undefined;
    /** The files that it is about; all without them. */
    readonly paths?: readonly string[];
    /** Only the n-th call of each thread. @default all of them */
    readonly nth?: number | undefined;
}

/** LevelDB numbers its files; these are the ones that a test can reach. */
export function journalFiles(dataDir: string): string[] {
    const numbers = Array.from({ length: 200 }, (_, index) => String(index + 1).padStart(6, "0"));
    const names = numbers.flatMap((number) => [`${number}.log`, `${number}.dbtmp`, `MANIFEST-${number}`]);
    return names.map((name) => join(dataDir, "journal", name));
}

export async function breakDisk(pid: number, { calls, error, paths = [], nth }: Breakage): Promise<BrokenDisk> {
    try {
        execFileSync("strace", ["-V"], { stdio: "ignore" });
    } catch (cause) {
        throw new Error("These tests need the package strace: apt-get install strace", { cause });
    }
    const when = nth === undefined ? "" : `:when=${nth}`;
    const strace: ChildProcess = spawn(
        "strace",
        [
            "-f",
            "-e",
            `trace=${calls}`,
            ...(error === undefined ? [] : ["-e", `inject=${calls}:error=${error}${when}`]),
            ...paths.flatMap((path) => ["-P", path]),
            "-p",
            String(pid),
        ],
        { stdio: ["ignore", "ignore", "pipe"] },
    );
    let output = "";
    let hits = 0;
    const marker = error === undefined ? / = 0$/ : /\(INJECTED\)$/;
    const attached = new Promise<void>((resolve, reject) => {
        strace.once("exit", () => reject(new Error(`strace: ${output}`)));
        strace.stderr?.on("data", (chunk: Buffer) => {
            const lines = (output + chunk.toString()).split("\n");
            output = lines.pop() ?? "";
            for (const line of lines) {
                if (marker.test(line)) hits++;
                if (/attached/.test(line)) resolve();
            }
        });
    });
    await attached;
    return {
        get hits() {
            return hits;
        },
        async mend() {
            if (strace.exitCode !== null || strace.signalCode !== null) return;
            strace.kill("SIGINT");
            await once(strace, "exit");
        },
    };
}
