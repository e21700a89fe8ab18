import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Child } from "../bench/support/child.ts";
import type { Setting } from "./plan.ts";
import type { ComponentHandlers, Sample } from "./processes/component.ts";
import { ACCESS_TOKEN, BOT, type HomeserverHandlers } from "./processes/homeserver-names.ts";
import type { RemoteHandlers } from "./processes/remote.ts";
import type { StorageHandlers } from "./processes/storage.ts";

const ROOMS = 6;
const GHOSTS = ["@ghost_ada:soak.example", "@ghost_ben:soak.example", "@ghost_cleo:soak.example", BOT];

/** The processes of a soak, and what has to survive when one of them is killed. */
export class Parties {
    readonly #folder: string;
    readonly #seed: number;
    readonly #perSecond: number;
    readonly remote: Child<RemoteHandlers>;
    readonly storage: Child<StorageHandlers>;
    #homeserver: Child<HomeserverHandlers> | undefined;
    #component: Child<ComponentHandlers> | undefined;
    #setting: Setting | undefined;
    #storageUrl = "";
    #next = 0;
    /** Said, and not known to be accepted. */
    readonly #open = new Set<number>();

    constructor(folder: string, seed: number, perSecond: number) {
        this.#folder = folder;
        this.#seed = seed;
        this.#perSecond = perSecond;
        this.remote = this.#child("remote");
        this.storage = this.#child("storage");
    }

    get homeserver(): Child<HomeserverHandlers> {
        if (this.#homeserver === undefined) throw new Error("not started");
        return this.#homeserver;
    }

    get setting(): Setting {
        if (this.#setting === undefined) throw new Error("not started");
        return this.#setting;
    }

    /** Messages said so far. */
    get said(): number {
        return this.#next;
    }

    async start(): Promise<void> {
        this.#storageUrl = await this.storage.call("url");
        const remoteUrl = await this.remote.call("url");
        const homeserverUrl = await this.#startHomeserver(0);
        const rooms = await this.homeserver.call("setUp", {
            ghosts: GHOSTS.filter((user) => user !== BOT),
            rooms: ROOMS,
        });
        this.#setting = {
            seed: this.#seed,
            homeserverUrl,
            accessToken: ACCESS_TOKEN,
            bot: BOT,
            ghosts: GHOSTS,
            rooms,
            encryptedRoom: rooms.at(-1) ?? "",
            remoteUrl,
        };
        await this.startComponent();
    }

    async startComponent(): Promise<void> {
        this.#component = this.#child("component", ["--expose-gc"]);
        await this.#component.call("start", {
            setting: this.setting,
            dataDir: join(this.#folder, "component"),
            again: [...this.#open].toSorted((a, b) => a - b),
            from: this.#next,
            perSecond: this.#perSecond,
        });
    }

    async killComponent(): Promise<void> {
        await this.#component?.kill();
    }

    /** A homeserver that dies without a word and comes back at its address, its transaction ids forgotten. */
    async restartHomeserver(downMs: number): Promise<void> {
        await this.homeserver.kill();
        await sleep(downMs);
        await this.#startHomeserver(Number(new URL(this.setting.homeserverUrl).port));
    }

    /** Hears what was accepted. Throws when something was refused: nothing that a soak says may be. */
    async progress(): Promise<void> {
        const { accepted, next, refused } = await this.#ask("progress");
        for (; this.#next < next; this.#next++) this.#open.add(this.#next);
        for (const index of accepted) this.#open.delete(index);
        if (refused.length > 0) throw new Error(`refused: ${refused.slice(0, 5).join("; ")}`);
    }

    sample(): Promise<Sample> {
        return this.#ask("sample");
    }

    pending(): Promise<number> {
        return this.#ask("pending");
    }

    async stopSaying(): Promise<void> {
        await this.#ask("stop");
    }

    async closeComponent(): Promise<void> {
        await this.#ask("close");
    }

    /** Of the journal on disk. */
    async journalMb(): Promise<number> {
        return (await sizeOf(join(this.#folder, "component", "journal"))) / 2 ** 20;
    }

    async spooled(): Promise<string[]> {
        return readdir(join(this.#folder, "component", "spool"));
    }

    async close(): Promise<void> {
        for (const child of [this.#component, this.#homeserver, this.remote, this.storage]) await child?.kill();
    }

    #ask<Name extends "progress" | "sample" | "pending" | "stop" | "close">(name: Name) {
        if (this.#component === undefined) throw new Error("not started");
        return this.#component.call(name, ...([] as unknown as Parameters<ComponentHandlers[Name]>));
    }

    async #startHomeserver(port: number): Promise<string> {
        this.#homeserver = this.#child("homeserver");
        const dataDir = join(this.#folder, "homeserver");
        return this.#homeserver.call("start", { dataDir, port, storageUrl: this.#storageUrl });
    }

    #child<H extends Readonly<Record<string, (argument: never) => Promise<unknown>>>>(
        name: string,
        execArgv: string[] = [],
    ): Child<H> {
        const script = join(import.meta.dirname, "processes", `${name}.ts`);
        const environment = { SOAK_SEED: String(this.#seed) };
        return new Child<H>(name, environment, {
            script,
            execArgv: ["--import=./scripts/typescript.mjs", ...execArgv],
        });
    }
}

async function sizeOf(folder: string): Promise<number> {
    let total = 0;
    // A table may be compacted away between the two looks.
    for (const name of await readdir(folder).catch(() => []))
        total += await stat(join(folder, name)).then(
            ({ size }) => size,
            () => 0,
        );
    return total;
}
