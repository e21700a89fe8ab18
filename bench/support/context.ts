import { mkdtemp, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { ComponentHandlers } from "../processes/component.ts";
import { BUILT_VARIABLE } from "../processes/built.ts";
import { HOST_BRIDGE_VARIABLE } from "../processes/host-bridge.ts";
import type { EmbeddedHandlers } from "../processes/embedded-homeserver.ts";
import type { EncryptionHandlers } from "../processes/encryption.ts";
import type { HomeserverHandlers } from "../processes/homeserver.ts";
import type { PipeHandlers } from "../processes/pipe.ts";
import type { ContestantHandlers } from "../processes/race/contestant.ts";
import type { TapHandlers } from "../processes/race/tap.ts";
import type { RemoteHandlers } from "../processes/remote.ts";
import { COMPILED } from "./build.ts";
import { Child } from "./child.ts";

interface Processes {
    component: ComponentHandlers;
    encryption: EncryptionHandlers;
    homeserver: HomeserverHandlers;
    "embedded-homeserver": EmbeddedHandlers;
    pipe: PipeHandlers;
    "race/appservice-bridge": ContestantHandlers;
    "race/bare-pipe": ContestantHandlers;
    "race/bot-sdk": ContestantHandlers;
    "race/component": ContestantHandlers;
    "race/detached": ContestantHandlers;
    "race/tap": TapHandlers;
    remote: RemoteHandlers;
}

interface ProcessOptions {
    /** With the SDK loaded that bridges are built on. */
    readonly inBridge?: boolean;
    /** Started as docs/embedding.md advises. */
    readonly withRoom?: boolean;
}

const ROOM = ["--initial-old-space-size=256", "--min-semi-space-size=16"];

/** What one measurement works with; `close()` ends its processes and removes its folders. */
export class Context {
    readonly runs: number;
    /** Small sizes and counts, to see that the harness works. */
    readonly quick: boolean;
    readonly #built: string;
    readonly #profiles: string | undefined;
    readonly #children: Child<never>[] = [];
    readonly #folders: string[] = [];
    readonly #others: { close(): Promise<void> }[] = [];
    /** What the measurement had to do without: what came out is then no replacement for what was kept before. */
    missing: string | undefined;

    /** @param profiles The folder for CPU profiles of the processes, where they are wanted. */
    constructor({
        runs,
        quick,
        built,
        profiles,
    }: {
        runs: number;
        quick: boolean;
        built: string;
        profiles?: string | undefined;
    }) {
        this.runs = runs;
        this.quick = quick;
        this.#built = built;
        this.#profiles = profiles;
    }

    start<Name extends keyof Processes>(
        name: Name,
        { inBridge = false, withRoom = false }: ProcessOptions = {},
    ): Child<Processes[Name]> {
        const environment = { [BUILT_VARIABLE]: this.#built, ...(inBridge && { [HOST_BRIDGE_VARIABLE]: "1" }) };
        const profile = this.#profiles === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${resolve(this.#profiles)}`];
        const child = new Child<Processes[Name]>(name, environment, {
            execArgv: [...profile, ...(withRoom ? ROOM : [])],
        });
        this.#children.push(child);
        return child;
    }

    /** An empty folder on the disk that the repository is on, not one that a machine may keep in memory. */
    async folder(): Promise<string> {
        const folder = await mkdtemp(join(COMPILED, "data-"));
        this.#folders.push(folder);
        return folder;
    }

    /** For what a measurement opened besides. */
    closeLater(other: { close(): Promise<void> }): void {
        this.#others.push(other);
    }

    log(line: string): void {
        console.error(`  ${line}`);
    }

    async close(): Promise<void> {
        for (const child of this.#children) await child.kill();
        for (const other of this.#others) await other.close();
        for (const folder of this.#folders) await rm(folder, { recursive: true, force: true });
    }
}

/** A component on an empty data directory, with the homeserver given. */
export async function startComponent(
    context: Context,
    homeserver: { homeserverUrl: string; accessToken?: string },
    {
        concurrency = 4,
        withJournalClock = false,
        inBridge = false,
        allowPrivateAddresses = true,
        encryption,
    }: {
        concurrency?: number;
        withJournalClock?: boolean;
        inBridge?: boolean;
        allowPrivateAddresses?: boolean | readonly string[];
        encryption?: "spool" | "two-pass";
    } = {},
): Promise<Child<ComponentHandlers>> {
    const component = context.start("component", { inBridge });
    const dataDir = await context.folder();
    await component.call("start", {
        ...homeserver,
        withJournalClock,
        options: { dataDir, concurrency, allowPrivateAddresses, ...(encryption !== undefined && { encryption }) },
    });
    return component;
}
