/**
 * The instants at which the wire can be seen to be, so that the process on its other end can be killed there.
 *
 * *arrived*: the request is here and nothing of it was handled. *half*: half of its bytes are through. *handled*: it took
 * effect, its answer is withheld. *answered*: the answer is on its way.
 */
export const PHASES = ["arrived", "half", "handled", "answered"] as const;
export type Phase = (typeof PHASES)[number];

/** *link*: the network is asked where a file is by now. */
export type Kind =
    | "create"
    | "send"
    | "redact"
    | "look"
    | "upload"
    | "storage"
    | "complete"
    | "fetch"
    | "link"
    | "profile"
    | "other";

/** Asked at each instant; true when the process has just been killed: what is left of the request is let go. */
export type Strike = (kind: Kind, phase: Phase) => boolean;
