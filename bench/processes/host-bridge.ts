import { createRequire } from "node:module";

/** Names the environment variable that makes a process a bridge's: with the SDK loaded that bridges are built on. */
export const HOST_BRIDGE_VARIABLE = "BENCH_HOST_BRIDGE";

/**
 * The component lives in a bridge's process. That matters to a transfer: V8 lets garbage wait in proportion to the heap,
 * and in a process that holds next to nothing 24 MB of network buffers already set off a full collection, up to
 * twenty a second. Whether a lone process falls into that is chance, so processes that are compared are given the same
 * company.
 */
export function joinHostBridge(): void {
    if (process.env[HOST_BRIDGE_VARIABLE] !== undefined) createRequire(import.meta.url)("matrix-appservice-bridge");
}
