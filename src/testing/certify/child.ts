import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Life } from "./driver.ts";

const DRIVER = fileURLToPath(new URL("./driver.js", import.meta.url));
const MAX_STDERR = 4000;

/** A process of the driver, started ahead so that it has loaded its modules when its life begins. */
export class Child {
    readonly #process: ChildProcess;
    readonly #ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
    #onLine: (word: string, ...rest: string[]) => void = () => {};
    #text = "";
    #stderr = "";

    constructor() {
        this.#process = spawn(process.execPath, [DRIVER], { stdio: ["pipe", "pipe", "pipe"] });
        this.#process.stdin?.on("error", () => {});
        this.#process.stdout?.setEncoding("utf8").on("data", (chunk: string) => this.#read(chunk));
        this.#process.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
            this.#stderr = (this.#stderr + chunk).slice(-MAX_STDERR);
        });
        this.#ended = once(this.#process, "close").then(([code, signal]) => ({
            code: code as number | null,
            signal: signal as NodeJS.Signals | null,
        }));
    }

    /** What it has written to its error output. */
    get stderr(): string {
        return this.#stderr;
    }

    /** Resolves when it is gone and everything that it had told is read. */
    get ended() {
        return this.#ended;
    }

    get hasEnded(): boolean {
        return this.#process.exitCode !== null || this.#process.signalCode !== null;
    }

    live(life: Life, onLine: (word: string, ...rest: string[]) => void): void {
        this.#onLine = onLine;
        this.#tell(life);
    }

    /** Messages by their numbers, in this order. */
    say(messages: readonly number[]): void {
        this.#tell(messages);
    }

    /** Lets it close its component and leave. */
    leave(): void {
        this.#tell(null);
    }

    kill(): void {
        this.#process.kill("SIGKILL");
    }

    #tell(line: Life | readonly number[] | null): void {
        this.#process.stdin?.write(`${JSON.stringify(line)}\n`);
    }

    #read(chunk: string): void {
        const lines = (this.#text + chunk).split("\n");
        this.#text = lines.pop() ?? "";
        for (const line of lines) {
            const [word = "", ...rest] = line.split(" ");
            this.#onLine(word, ...rest);
        }
    }
}
