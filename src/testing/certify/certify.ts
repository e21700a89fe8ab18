import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import { MediaError } from "../../errors.ts";
import { loadConnector, loadStore } from "./candidates.ts";
import { type Episode, runEpisode } from "./episode.ts";
import { tryStore } from "./journal.ts";
import { type CertificationReport, reportOf, type Violation } from "./report.ts";

/**
 * Kills a bridge at its steps, again and again, and says whether everything that was promised held. The bridge is a
 * process of its own on this package's component, the homeserver's storage another one; a homeserver and a network that record
 * everything are here.
 */
export interface CertifyOptions {
    /**
     * The module of a store: its default export makes one in a folder, `(directory) => Store`. A URL, because the process
     * that is killed loads it too. @default LevelDB
     */
    readonly store?: URL | string;
    /** The module of a connector: its default export gives `{ connector, files: [{ ref, bytes }] }`. @default none */
    readonly connector?: URL | string;
    /** @default 200 */
    readonly kills?: number;
    /** Of the schedule; a report names it. @default a random one */
    readonly seed?: number;
    /** Only this episode of the schedule: what a report says to repeat. @default all */
    readonly episode?: number;
    /** Episodes at once. @default 2, or 1 on a single core */
    readonly parallel?: number;
    /** From `start()` to the first request, where there is work, in milliseconds. @default 1000 */
    readonly recoveryMs?: number;
    /** For an episode to come to its end once nothing is killed any more, in milliseconds. @default 60000 */
    readonly quietMs?: number;
    /** Told after each episode. */
    readonly onProgress?: (progress: { readonly kills: number; readonly violations: readonly Violation[] }) => void;
    /** Ends it early, with the signal's reason. */
    readonly signal?: AbortSignal;
}

const LIVES = 12;
/** Episodes in a row in which nothing could be killed, because what should be ends by itself: their findings say why. */
const MAX_BARREN = 8;
/** Kept apart so that neighbouring seeds share no episode. */
const EPISODE_STRIDE = 0x9e3779b1;

/**
 * Resolves with the report, whatever it says; rejects where a module cannot be used, or for an aborted signal.
 *
 * @throws MediaError INVALID_OPTION, naming the field.
 */
export async function certify(options: CertifyOptions = {}): Promise<CertificationReport> {
    check(options);
    const { kills = 200, seed = randomInt(2 ** 31), episode: only, recoveryMs = 1000, quietMs = 60_000 } = options;
    const { parallel = Math.min(2, availableParallelism()), signal = new AbortController().signal } = options;
    const storeUrl = options.store?.toString();
    const connectorUrl = options.connector?.toString();
    signal.throwIfAborted();
    const store = storeUrl === undefined ? undefined : await loadStore(storeUrl);
    if (store !== undefined) await tryStore(store, signal);
    const connector = connectorUrl === undefined ? undefined : await loadConnector(connectorUrl);
    // Aborted by the signal, and by whatever breaks in one of the parallel lines.
    const stop = new AbortController();
    const shared = {
        lives: LIVES,
        recoveryMs,
        quietMs,
        storeUrl,
        store,
        connectorUrl,
        connector,
        signal: stop.signal,
    };
    const began = Date.now();
    const episodes = new Map<number, Episode>();
    let next = only ?? 0;
    let done = 0;
    let barren = 0;
    const violations: Violation[] = [];
    const work = async (): Promise<void> => {
        while (only === undefined ? done < kills && barren < MAX_BARREN : next === only) {
            const number = next++;
            const episode = await runEpisode({ ...shared, seed: (seed + Math.imul(number, EPISODE_STRIDE)) >>> 0 });
            episodes.set(number, episode);
            done += episode.kills.length;
            barren = episode.kills.length === 0 ? barren + 1 : 0;
            violations.push(...episode.violations.map((finding) => ({ episode: number, finding })));
            options.onProgress?.({ kills: done, violations });
        }
    };
    const end = (): void => stop.abort(signal.reason);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
    // Each of them has cleaned up when this is over.
    await Promise.all(Array.from({ length: parallel }, () => work().catch((error: unknown) => stop.abort(error))));
    signal.removeEventListener("abort", end);
    stop.signal.throwIfAborted();
    return reportOf({ seed, episodes, durationMs: Date.now() - began });
}

/** Nothing that could pass without having looked. */
function check(options: CertifyOptions): void {
    for (const [field, least] of [
        ["kills", 1],
        ["parallel", 1],
        ["seed", 0],
        ["episode", 0],
    ] as const) {
        const { [field]: value = least } = options;
        if (!Number.isSafeInteger(value) || value < least)
            throw new MediaError("INVALID_OPTION", { field, detail: `it must be a whole number of at least ${least}` });
    }
    for (const field of ["recoveryMs", "quietMs"] as const) {
        const { [field]: value = 1 } = options;
        if (!Number.isFinite(value) || value <= 0)
            throw new MediaError("INVALID_OPTION", { field, detail: "it must be a number of milliseconds above 0" });
    }
}
