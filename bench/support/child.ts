import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Answer, Call } from "../processes/serve.ts";
import { COMPILED } from "./build.ts";

interface Waiting {
    readonly resolve: (value: unknown) => void;
    readonly reject: (error: Error) => void;
}

type Functions = Readonly<Record<string, (argument: never) => Promise<unknown>>>;

/** A process of bench/processes, compiled, run by node alone: a TypeScript loader would count as the component's memory. */
export class Child<H extends Functions> {
    readonly #process: ChildProcess;
    readonly #waiting = new Map<number, Waiting>();
    #calls = 0;

    constructor(
        name: string,
        environment: NodeJS.ProcessEnv = {},
        { script = join(COMPILED, "bench", "processes", `${name}.js`), execArgv = [] as string[] } = {},
    ) {
        this.#process = fork(script, { execArgv, env: { ...process.env, ...environment } });
        this.#process.on("message", ({ id, value, error }: Answer) => {
            const waiting = this.#waiting.get(id);
            this.#waiting.delete(id);
            if (error === undefined) waiting?.resolve(value);
            else waiting?.reject(new Error(`${name}: ${error}`));
        });
        this.#process.on("exit", (code, signal) => {
            const error = new Error(`${name} has ended (${signal ?? code})`);
            for (const { reject } of this.#waiting.values()) reject(error);
            this.#waiting.clear();
        });
    }

    call<Name extends keyof H & string>(
        name: Name,
        ...[argument]: Parameters<H[Name]>
    ): Promise<Awaited<ReturnType<H[Name]>>> {
        const call: Call = { id: this.#calls++, name, argument };
        return new Promise((resolve, reject) => {
            this.#waiting.set(call.id, { resolve: resolve as (value: unknown) => void, reject });
            this.#process.send(call, (error) => {
                if (error !== null) reject(error);
            });
        });
    }

    /** Lets it end by itself, so that a profile of it is written. */
    async stop(): Promise<void> {
        if (this.#hasEnded) return;
        const ended = once(this.#process, "exit");
        this.#process.disconnect();
        await ended;
    }

    /** Ends it as a crash would. */
    async kill(): Promise<void> {
        if (this.#hasEnded) return;
        const ended = once(this.#process, "exit");
        this.#process.kill("SIGKILL");
        await ended;
    }

    get #hasEnded(): boolean {
        return this.#process.exitCode !== null || this.#process.signalCode !== null;
    }
}
