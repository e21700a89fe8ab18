/** Who runs, in the order of the tables, and under what name. */
export const CONTESTANTS = {
    component: "this project",
    "bot-sdk": "matrix-bot-sdk",
    "appservice-bridge": "matrix-appservice-bridge",
    detached: "detached /create",
    "bare-pipe": "bare pipe",
} as const;
export type Contestant = keyof typeof CONTESTANTS;
export const ALL = Object.keys(CONTESTANTS) as readonly Contestant[];
