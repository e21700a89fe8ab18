import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { fileURLToPath } from "node:url";
import type { Phase } from "./moments.ts";
import { signedPath } from "./signature.ts";
import type { FromStorage, ToStorage } from "./storage-process.ts";

const PROCESS = fileURLToPath(new URL("./storage-process.js", import.meta.url));

/** A request to the storage, at one of its instants. */
export interface StorageInstant {
    /** Its number. */
    readonly request: number;
    readonly phase: Phase;
    readonly key: string;
    /** It came as the homeserver had signed it. */
    readonly isSigned: boolean;
    /** It came with an access token, which is the homeserver's alone. */
    readonly hasToken: boolean;
}

/** The storage's process, as the homeserver knows it: by its address and the secret that both share. */
export class Storage {
    readonly #process: ChildProcess;
    readonly #secret: string;
    readonly #port: number;
    readonly #waiting = new Map<number, () => void>();
    #count = 0;

    private constructor(process: ChildProcess, secret: string, port: number) {
        this.#process = process;
        this.#secret = secret;
        this.#port = port;
    }

    /** @param goesOn Asked at each instant of a PUT: whether the storage goes on with it, or drops it. */
    static async start(goesOn: (instant: StorageInstant) => boolean): Promise<Storage> {
        const secret = randomBytes(32).toString("hex");
        // Nothing of the harness' own loader: it is compiled, as the driver is.
        const process = fork(PROCESS, { execArgv: [] });
        process.on("error", () => {});
        process.send({ secret } satisfies ToStorage);
        const first = await Promise.race([
            once(process, "message").then(([word]) => word as FromStorage),
            once(process, "exit").then(() => undefined),
        ]);
        if (first === undefined || !("port" in first)) throw new Error("the recorder's storage did not start");
        const storage = new Storage(process, secret, first.port);
        process.on("message", (word: FromStorage) => {
            if ("ask" in word) storage.#tell({ answer: word.ask, goesOn: goesOn(word) });
            else if ("hungUp" in word) storage.#waiting.get(word.hungUp)?.();
        });
        process.once("exit", () => {
            for (const go of storage.#waiting.values()) go();
        });
        return storage;
    }

    /** Where a client may put what belongs to the key. */
    uploadUrl(key: string): string {
        return `http://127.0.0.1:${this.#port}${signedPath(this.#secret, "PUT", key)}`;
    }

    /** What was put there; undefined where nothing was. */
    async content(key: string): Promise<Buffer | undefined> {
        const path = signedPath(this.#secret, "GET", key);
        const answer = await new Promise<IncomingMessage>((resolve, reject) => {
            get({ host: "127.0.0.1", port: this.#port, path, agent: false }, resolve).once("error", reject);
        });
        const chunks: Buffer[] = [];
        for await (const chunk of answer as AsyncIterable<Buffer>) chunks.push(chunk);
        return answer.statusCode === 200 ? Buffer.concat(chunks) : undefined;
    }

    /** Resolves when it has let go of every connection. */
    async hangUp(): Promise<void> {
        if (this.#hasEnded) return;
        const hangUp = ++this.#count;
        await new Promise<void>((resolve) => {
            this.#waiting.set(hangUp, resolve);
            this.#tell({ hangUp });
        });
        this.#waiting.delete(hangUp);
    }

    async close(): Promise<void> {
        if (this.#hasEnded) return;
        const ended = once(this.#process, "exit");
        this.#process.kill("SIGKILL");
        await ended;
    }

    get #hasEnded(): boolean {
        return this.#process.exitCode !== null || this.#process.signalCode !== null;
    }

    #tell(word: ToStorage): void {
        if (this.#process.connected) this.#process.send(word, () => {});
    }
}
