import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { BridgeMediaOptions, JobState, RemoteMessage } from "../../../src/index.ts";

/** What the component in a process of its own is to do. */
export interface Plan {
    readonly homeserverUrl: string;
    readonly accessToken: string;
    readonly bot: string;
    readonly dataDir: string;
    readonly options: Partial<BridgeMediaOptions>;
    /** Sent in this order as soon as it has started, without awaiting one another. */
    readonly messages: readonly RemoteMessage[];
}

/** What it tells, one line each. */
export type Told =
    | { readonly kind: "started" }
    | { readonly kind: "job"; readonly id: string | undefined; readonly state: JobState }
    | { readonly kind: "sent"; readonly id: string; readonly eventId: string }
    | { readonly kind: "refused"; readonly id: string; readonly code: string };

const ROOT = join(import.meta.dirname, "../../..");
const DRIVER = join(import.meta.dirname, "../driver.ts");

/** The component in a process of its own, so that it can die at any moment. */
export class ComponentProcess {
    readonly told: Told[] = [];
    readonly #child: ChildProcess;
    #complaints = "";

    private constructor(child: ChildProcess) {
        this.#child = child;
        child.stderr?.on("data", (chunk: unknown) => {
            this.#complaints += String(chunk);
        });
        if (child.stdout !== null) {
            createInterface(child.stdout).on("line", (line) => this.told.push(JSON.parse(line) as Told));
        }
    }

    static async start(plan: Plan): Promise<ComponentProcess> {
        const path = join(plan.dataDir, "plan.json");
        await writeFile(path, JSON.stringify(plan));
        const child = spawn(process.execPath, ["--import=./scripts/typescript.mjs", DRIVER, path], {
            cwd: ROOT,
            stdio: "pipe",
        });
        const started = new ComponentProcess(child);
        await once(child, "spawn");
        return started;
    }

    /** Whether a job of this message was ever in this state, and so the message in the journal. */
    sawJob(messageId: string, state?: JobState): boolean {
        this.#assertRunning();
        return this.told.some(
            (told) => told.kind === "job" && told.id === messageId && (state === undefined || told.state === state),
        );
    }

    sawSent(messageId: string): boolean {
        this.#assertRunning();
        return this.told.some((told) => told.kind === "sent" && told.id === messageId);
    }

    /** kill -9. */
    async kill(): Promise<void> {
        const child = this.#child;
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
    }

    close(): Promise<void> {
        return this.kill();
    }

    #assertRunning(): void {
        const { exitCode } = this.#child;
        if (exitCode !== null) throw new Error(`The component's process ended with ${exitCode}:\n${this.#complaints}`);
    }
}
