import { setTimeout as sleep } from "node:timers/promises";
import type { Measured } from "./figures.ts";
import type { Parties } from "./parties.ts";
import { makeTrouble } from "./trouble.ts";

export interface SoakOptions {
    readonly minutes: number;
    readonly seed: number;
    readonly kills: boolean;
}

export type SoakEvent = { readonly measured: Measured } | { readonly trouble: string };

const PROGRESS_MS = 500;
/** Samples in a run, but no more often than this. */
const SAMPLES = 120;
const SHORTEST_SAMPLE_MS = 2000;
/** What is pending when the load ends must have ended by then: as long as an upload's longest back-off. */
const DRAIN_MS = 6 * 60_000;

/** Load and trouble for the time, then quiet until nothing is pending. */
export async function soak(parties: Parties, options: SoakOptions, tell: (event: SoakEvent) => void): Promise<void> {
    const over = new AbortController();
    let life = 0;
    let isUp = true;
    const failed: unknown[] = [];
    const trouble = makeTrouble(parties, options, over.signal, {
        began: (what) => tell({ trouble: what }),
        componentDown: () => {
            isUp = false;
        },
        componentUp: () => {
            isUp = true;
            life++;
        },
    }).catch((error: unknown) => failed.push(error));
    const began = performance.now();
    const elapsed = (): number => performance.now() - began;
    const sampleMs = Math.max(SHORTEST_SAMPLE_MS, (options.minutes * 60_000) / SAMPLES);
    let nextSample = sampleMs;
    try {
        while (elapsed() < options.minutes * 60_000) {
            await sleep(PROGRESS_MS);
            if (failed.length > 0) throw failed[0];
            if (!isUp) continue;
            const before = life;
            try {
                await parties.progress();
                if (elapsed() < nextSample) continue;
                nextSample += sampleMs;
                const figures = { ...(await parties.sample()), journalMb: await parties.journalMb() };
                tell({ measured: { seconds: elapsed() / 1000, life, figures } });
            } catch (error) {
                // Killed under the question.
                if (isUp && life === before) throw error;
            }
        }
    } finally {
        over.abort();
        await trouble;
    }
    if (failed.length > 0) throw failed[0];
    await parties.stopSaying();
    await drained(parties);
    await parties.closeComponent();
}

async function drained(parties: Parties): Promise<void> {
    const end = performance.now() + DRAIN_MS;
    for (let quiet = 0; quiet < 3; await sleep(PROGRESS_MS)) {
        const pending = await parties.pending();
        quiet = pending === 0 ? quiet + 1 : 0;
        if (performance.now() > end)
            throw new Error(`${pending} are still pending ${DRAIN_MS} ms after the last message`);
    }
    await parties.progress();
}
