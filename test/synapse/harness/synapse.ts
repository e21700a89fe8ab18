import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type FileHandle, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "../../support/until.ts";
import { type Registration, type SynapseOptions, writeConfiguration, writeRegistration } from "./config.ts";
import { synapsePython } from "./python.ts";

const READY_WITHIN_MS = 60_000;
const DEFAULTS: SynapseOptions = {
    rateLimited: false,
    maxUploadBytes: 64 * 2 ** 20,
    unusedExpirationMs: 24 * 60 * 60_000,
    messageRate: { per_second: 1000, burst_count: 1000 },
};

/** A real Synapse on loopback, with a data directory of its own. */
export class Synapse {
    readonly url: string;
    readonly registration: Registration;
    readonly #dir: string;
    readonly #port: number;
    readonly #python: string;
    #options: SynapseOptions;
    #process: ChildProcess | undefined;

    private constructor(python: string, dir: string, port: number, options: SynapseOptions, given: Registration) {
        this.#python = python;
        this.#dir = dir;
        this.#port = port;
        this.#options = options;
        this.registration = given;
        this.url = `http://127.0.0.1:${port}`;
    }

    /** Installs Synapse where that is still to be done, and starts one. */
    static async open(options: Partial<SynapseOptions> = {}): Promise<Synapse> {
        const python = await synapsePython();
        const all = { ...DEFAULTS, ...options };
        const dir = await mkdtemp(join(tmpdir(), "bridge-media-synapse-"));
        const registration = await writeRegistration(join(dir, "registration.yaml"), all.rateLimited);
        const synapse = new Synapse(python, dir, await freePort(), all, registration);
        await synapse.start().catch(async (error: unknown) => {
            await synapse.close();
            throw error;
        });
        return synapse;
    }

    /** Starts it, on the data and the port that it had, and waits until it answers. */
    async start(changed: Partial<SynapseOptions> = {}): Promise<void> {
        if (this.#process !== undefined) throw new Error("Synapse runs already");
        this.#options = { ...this.#options, ...changed };
        const configuration = await writeConfiguration(this.#dir, this.#port, this.#options);
        const log = await open(this.#logFile, "a");
        const child = spawn(
            this.#python,
            [join(import.meta.dirname, "run-synapse.py"), "--config-path", configuration],
            // Its standard input is the cord by which it goes down with this process.
            { cwd: this.#dir, stdio: ["pipe", log.fd, log.fd] },
        );
        this.#process = child;
        await closeOnceStarted(child, log);
        await until(() => this.#answersOrDied(child), { what: "Synapse's first answer", limitMs: READY_WITHIN_MS });
        if (hasEnded(child)) throw new Error(`Synapse did not start:\n${await this.#lastLines()}`);
    }

    /** kill -9. */
    async kill(): Promise<void> {
        const child = this.#process;
        this.#process = undefined;
        if (child === undefined || hasEnded(child)) return;
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
    }

    async close(): Promise<void> {
        await this.kill();
        await rm(this.#dir, { recursive: true, force: true });
    }

    get #logFile(): string {
        return join(this.#dir, "synapse.log");
    }

    async #answersOrDied(child: ChildProcess): Promise<boolean> {
        return hasEnded(child) || (await answers(`${this.url}/_matrix/client/versions`));
    }

    async #lastLines(): Promise<string> {
        return (await readFile(this.#logFile, "utf8")).split("\n").slice(-20).join("\n");
    }
}

async function closeOnceStarted(child: ChildProcess, log: FileHandle): Promise<void> {
    try {
        await once(child, "spawn");
    } finally {
        await log.close();
    }
}

function hasEnded(child: ChildProcess): boolean {
    return child.exitCode !== null || child.signalCode !== null;
}

function answers(url: string): Promise<boolean> {
    return new Promise((resolve) => {
        request(url, { agent: false }, (response) => {
            response.resume();
            resolve(response.statusCode === 200);
        })
            .once("error", () => resolve(false))
            .end();
    });
}

/**
 * A port below those that systems hand out by themselves: while Synapse is down, no other socket may come to sit on
 * its port, and a client that knocks there must not by chance be connected to itself.
 */
export async function freePort(): Promise<number> {
    for (let tries = 0; tries < 100; tries++) {
        const port = 20_000 + Math.floor(Math.random() * 10_000);
        const server = createServer();
        const isFree = await new Promise<boolean>((resolve) => {
            server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
        });
        if (!isFree) continue;
        await new Promise((resolve) => server.close(resolve));
        return port;
    }
    throw new Error("No free port found");
}
