import { setTimeout as sleep } from "node:timers/promises";
import type { Parties } from "./parties.ts";
import { randomOf } from "./plan.ts";
import { HOMESERVER_TROUBLES } from "./processes/homeserver-names.ts";
import { TROUBLES } from "./processes/weather.ts";

/**
 * What goes wrong during a soak, one thing after the other with quiet in between, drawn from the seed: each kind of
 * trouble comes about equally often. Which request it hits is the machine's affair, so a seed repeats the kinds and their
 * order, not the run to the byte.
 */
export interface TroubleOptions {
    readonly seed: number;
    /** Whether the component is killed now and then. */
    readonly kills: boolean;
}

export interface TroubleWatch {
    readonly began: (what: string) => void;
    readonly componentDown: () => void;
    readonly componentUp: () => void;
}

/** Of the requests that it hits. */
const SHARE = 0.3;
/** A storage has no body to cut off. */
const STORAGE_TROUBLES = TROUBLES.filter((trouble) => trouble !== "truncated");

/** Goes on until `signal` aborts, and leaves everything well. Rejects when a party cannot be started again. */
export async function makeTrouble(
    parties: Parties,
    { seed, kills }: TroubleOptions,
    signal: AbortSignal,
    watch: TroubleWatch,
): Promise<void> {
    const random = randomOf(seed + 3);
    const drawn = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)] as T;
    const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal }).catch(() => {});
    const during = async (what: string, set: (on: boolean) => Promise<void>): Promise<void> => {
        watch.began(what);
        await set(true);
        await pause(1000 + random() * 4000);
        await set(false);
    };
    while (!signal.aborted) {
        await pause(2000 + random() * 5000);
        if (signal.aborted) return;
        const dice = random();
        if (dice < 0.35) {
            const trouble = drawn(TROUBLES);
            await during(`source ${trouble}`, (on) =>
                parties.remote.call("weather", on ? { trouble, share: SHARE } : undefined),
            );
        } else if (dice < 0.6) {
            const trouble = drawn(STORAGE_TROUBLES);
            await during(`storage ${trouble}`, (on) =>
                parties.storage.call("weather", on ? { trouble, share: SHARE } : undefined),
            );
        } else if (dice < 0.9) {
            const kind = drawn(HOMESERVER_TROUBLES);
            await during(`homeserver ${kind}`, (on) =>
                parties.homeserver.call("trouble", on ? { kind, share: SHARE } : undefined),
            );
        } else if (kills && dice < 0.95) {
            watch.began("component killed");
            watch.componentDown();
            await parties.killComponent();
            await parties.startComponent();
            watch.componentUp();
        } else {
            watch.began("homeserver killed");
            await parties.restartHomeserver(500 + random() * 2000);
        }
    }
}
