import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * What says how far a process can have come: its pulse, told whenever its loop has gone round, and syncs of another file on
 * the same disk. A machine that stands still is nobody's fault.
 */
export interface Pulse {
    /** In ms since the epoch. */
    readonly at: number;
    /** The processor time that the process had used by then. */
    readonly cpuMs: number;
}

/** A time of which `ms` were lost. */
export interface Standstill {
    readonly from: number;
    readonly to: number;
    readonly ms: number;
}

/** From one pulse to the next, on a machine that is idle. */
export const PULSE_MS = 10;
/** A timer may be late by that without anything being slow, and a sync may take it. */
const USUAL_MS = 20;
const PAUSE_MS = 20;
/** In a round whatever had come is read; in the others what follows from it is begun. */
const ROUNDS = 3;

/**
 * Whoever has read what came at `time` has read and acted upon everything that came before the time returned: its loop has
 * gone round between them.
 */
export function readBefore(time: number, pulses: readonly Pulse[]): number {
    return pulses.filter(({ at }) => at < time).at(-ROUNDS)?.at ?? Number.NEGATIVE_INFINITY;
}

/** Where a process did not go on and did not use the processor either. */
export function keptOff(pulses: readonly Pulse[]): Standstill[] {
    return pulses.slice(1).map(({ at, cpuMs }, index) => {
        const before = pulses[index] ?? { at, cpuMs };
        const idleMs = at - before.at - (cpuMs - before.cpuMs);
        return { from: before.at, to: at, ms: Math.max(0, idleMs - PULSE_MS - USUAL_MS) };
    });
}

/** How much was lost between two times. */
export function lostBetween(standstills: readonly Standstill[], from: number, to: number): number {
    return standstills.reduce((sum, still) => {
        const overlapMs = Math.min(to, still.to) - Math.max(from, still.from);
        return sum + Math.max(0, Math.min(still.ms, overlapMs));
    }, 0);
}

/** Syncs a file of its own in `folder` now and then, until it is stopped or `isOver` says so. */
export class DiskWatch {
    readonly standstills: Standstill[] = [];
    readonly #ended: Promise<void>;
    #isStopped = false;

    constructor(folder: string, isOver: () => boolean) {
        // A disk that takes nothing is the component's to meet.
        this.#ended = this.#watch(folder, isOver).catch(() => {});
    }

    stop(): Promise<void> {
        this.#isStopped = true;
        return this.#ended;
    }

    async #watch(folder: string, isOver: () => boolean): Promise<void> {
        await mkdir(folder, { recursive: true });
        const file = await open(join(folder, "disk-watch"), "w");
        try {
            while (!this.#isStopped && !isOver()) {
                const from = Date.now();
                await file.write("x", 0);
                await file.datasync();
                const to = Date.now();
                this.standstills.push({ from, to, ms: Math.max(0, to - from - USUAL_MS) });
                await sleep(PAUSE_MS);
            }
        } finally {
            await file.close();
        }
    }
}
