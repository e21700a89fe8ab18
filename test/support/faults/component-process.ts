import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { MessageEdit } from "../../../src/index.ts";
import type { DriverSetup, Order, PictureOf, Reply } from "./driver.ts";
import type { Spoken } from "./spoken.ts";

const DRIVER = fileURLToPath(new URL("./driver.ts", import.meta.url));

type OrderWithoutId = Order extends infer One ? (One extends Order ? Omit<One, "id"> : never) : never;

/** The component in a process of its own, driven from here. */
export class ComponentProcess {
    readonly #child: ChildProcess;
    readonly #waiting = new Map<number, (reply: Reply) => void>();
    readonly log: string[] = [];
    #next = 1;

    private constructor(child: ChildProcess) {
        this.#child = child;
        child.on("message", (reply: Reply) => {
            this.#waiting.get(reply.id)?.(reply);
            this.#waiting.delete(reply.id);
        });
        for (const output of [child.stdout, child.stderr])
            output?.on("data", (text: Buffer) => this.log.push(text.toString()));
    }

    /** Resolves once it has started. */
    static async start(setup: DriverSetup, env: NodeJS.ProcessEnv = {}): Promise<ComponentProcess> {
        const child = fork(DRIVER, [JSON.stringify(setup)], {
            execArgv: ["--import=./scripts/typescript.mjs"],
            stdio: ["ignore", "pipe", "pipe", "ipc"],
            env: { ...process.env, ...env },
        });
        const component = new ComponentProcess(child);
        const started = component.#reply(0);
        await Promise.race([
            started,
            once(child, "exit").then(() => {
                throw new Error(`It did not start: ${component.log.join("")}`);
            }),
        ]);
        return component;
    }

    get pid(): number {
        return this.#child.pid ?? 0;
    }

    /** The event's id, or the code of the error. */
    async send(message: Spoken): Promise<string> {
        const { value, code } = await this.#order({ do: "send", message });
        return code ?? String(value);
    }

    /** The same for an edit. */
    async edit(messageId: string, edit: MessageEdit): Promise<string> {
        const { value, code } = await this.#order({ do: "edit", messageId, edit });
        return code ?? String(value);
    }

    /** Resolves with "$" where it is done, for what has no event's id. */
    async redact(messageId: string): Promise<string> {
        return (await this.#order({ do: "redact", messageId })).code ?? "$";
    }

    /** Resolves with the picture's address. */
    async setPicture(of: PictureOf, url: string): Promise<string> {
        const { value, code } = await this.#order({ do: "picture", of, url });
        return code ?? String(value);
    }

    /** The states of its jobs. */
    async jobs(): Promise<string[]> {
        return ((await this.#order({ do: "jobs" })).value ?? []) as string[];
    }

    async now(): Promise<number> {
        return Number((await this.#order({ do: "now" })).value);
    }

    async kill(): Promise<void> {
        if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
        this.#child.kill("SIGKILL");
        await once(this.#child, "exit");
    }

    async close(): Promise<void> {
        await this.#order({ do: "close" });
        await this.kill();
    }

    #order(order: OrderWithoutId): Promise<Reply> {
        const id = this.#next++;
        const reply = this.#reply(id);
        this.#child.send({ id, ...order });
        return reply;
    }

    #reply(id: number): Promise<Reply> {
        return new Promise((resolve) => this.#waiting.set(id, resolve));
    }
}
