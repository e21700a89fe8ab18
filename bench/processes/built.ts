import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { BridgeMedia } from "../../src/index.ts";
import type { LevelStore } from "../../src/store/level.ts";

/** The component as it was built; only its types come from the source. */
export type {
    BridgeLike,
    BridgeMedia,
    BridgeMediaOptions,
    BridgeMetricsLike as MetricsLike,
    JobInfo,
    RemoteMessage,
} from "../../src/index.ts";

export interface Built {
    readonly BridgeMedia: typeof BridgeMedia;
    readonly LevelStore: typeof LevelStore;
}

/** Names the folder of the built output. */
export const BUILT_VARIABLE = "BENCH_BUILT";

export async function loadBuilt(): Promise<Built> {
    const { BridgeMedia } = await loadFromBuilt<Pick<Built, "BridgeMedia">>("index.js");
    const { LevelStore } = await loadFromBuilt<Pick<Built, "LevelStore">>("store/level.js");
    return { BridgeMedia, LevelStore };
}

/** One module of the built output; the caller names its type. */
export async function loadFromBuilt<T>(file: string): Promise<T> {
    const folder = process.env[BUILT_VARIABLE];
    if (folder === undefined) throw new Error(`${BUILT_VARIABLE} is not set`);
    return (await import(pathToFileURL(join(folder, file)).href)) as T;
}
