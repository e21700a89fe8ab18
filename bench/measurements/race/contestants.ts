/** Who runs, in the order of the tables, and under what name. */
export const CONTESTANTS = {
    component: "this project",
    "bot-sdk": "matrix-bot-sdk, upload then send",
    "appservice-bridge": "matrix-appservice-bridge, upload then send",
    detached: "/create, detached buffered upload",
    "bare-pipe": "bare pipe (the limit)",
} as const;
export type Contestant = keyof typeof CONTESTANTS;
export const ALL = Object.keys(CONTESTANTS) as readonly Contestant[];
