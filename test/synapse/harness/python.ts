import { type StdioOptions, spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * The Python that runs Synapse: a virtual environment under `.e2e/`, made once and used again for as long as
 * `requirements.txt` stays what it was. What cannot be made is an error that says what to install: a suite that
 * skipped itself would prove nothing.
 */

const ROOT = join(import.meta.dirname, "../../..");
const REQUIREMENTS = join(import.meta.dirname, "../requirements.txt");
const ENVIRONMENT = join(ROOT, ".e2e", "synapse");
/** Written last, so that an installation that was cut off does not count. */
const STAMP = join(ENVIRONMENT, "installed.txt");
const PYTHON = join(ENVIRONMENT, "bin", "python");

const OLDEST = [3, 10] as const;
const CANDIDATES = ["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];
const WHAT_TO_INSTALL = `Python ${OLDEST.join(".")} or newer with venv and pip (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python3; or name one in the variable PYTHON)`;

interface Finished {
    readonly code: number | null;
    readonly output: string;
}

/** The interpreter of an environment that has exactly what `requirements.txt` names. */
export async function synapsePython(): Promise<string> {
    const requirements = await readFile(REQUIREMENTS, "utf8");
    const [, version] = /^matrix-synapse==(\S+)$/m.exec(requirements) ?? [];
    if (version === undefined) throw new Error(`${REQUIREMENTS} pins no matrix-synapse`);
    if (await isInstalled(requirements, version)) return PYTHON;
    const base = await basePython();
    progress(`Installing Synapse ${version} into ${ENVIRONMENT} (about a minute, once)`);
    const made = await run(base, ["-m", "venv", "--clear", ENVIRONMENT]);
    if (made.code !== 0) throw new Error(`The Synapse suite needs ${WHAT_TO_INSTALL}:\n${made.output}`);
    const install = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r", REQUIREMENTS];
    const installed = await run(PYTHON, install, ["ignore", process.stderr, process.stderr]);
    if (installed.code !== 0) throw new Error(`pip could not install ${REQUIREMENTS}; it says why above`);
    await writeFile(STAMP, requirements);
    if (!(await isInstalled(requirements, version))) throw new Error(`${PYTHON} does not find Synapse ${version}`);
    progress(`Synapse ${version} is installed`);
    return PYTHON;
}

async function isInstalled(requirements: string, version: string): Promise<boolean> {
    const stamp = await readFile(STAMP, "utf8").catch(() => "");
    if (stamp !== requirements) return false;
    const ask = "from importlib.metadata import version; print(version('matrix-synapse'))";
    const { code, output } = await run(PYTHON, ["-c", ask]).catch(absent);
    return code === 0 && output.trim() === version;
}

/** The first Python on the path that is new enough. */
async function basePython(): Promise<string> {
    const { PYTHON: chosen } = process.env;
    const seen: string[] = [];
    for (const name of chosen === undefined ? CANDIDATES : [chosen]) {
        const { code, output } = await run(name, ["-c", "import sys; print(*sys.version_info[:2])"]).catch(absent);
        if (code !== 0) continue;
        const [major = 0, minor = 0] = output.trim().split(" ").map(Number);
        if (major === OLDEST[0] && minor >= OLDEST[1]) return name;
        seen.push(`${name} is ${major}.${minor}`);
    }
    throw new Error(`The Synapse suite needs ${WHAT_TO_INSTALL}. Found: ${seen.join(", ") || "none"}.`);
}

function absent(): Finished {
    return { code: null, output: "" };
}

/** Runs to the end. Rejects only when there is nothing to run. */
function run(command: string, args: readonly string[], stdio: StdioOptions = "pipe"): Promise<Finished> {
    return new Promise((resolve, reject) => {
        const child = spawn(command, args, { stdio });
        let output = "";
        const keep = (chunk: unknown): void => {
            output += String(chunk);
        };
        child.stdout?.on("data", keep);
        child.stderr?.on("data", keep);
        child.once("error", reject);
        child.once("close", (code) => resolve({ code, output }));
    });
}

function progress(text: string): void {
    process.stderr.write(`${text}\n`);
}
