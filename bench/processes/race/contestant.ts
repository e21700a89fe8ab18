import { setTimeout as sleep } from "node:timers/promises";
import { joinHostBridge } from "../host-bridge.ts";
import { serve, usage } from "../serve.ts";
import type { RaceMessage, Start } from "./message.ts";
import { now } from "./sightings.ts";

/** One way to bridge messages and files, in a process of its own that has a bridge's SDK loaded. */
export interface Contestant {
    open(start: Start): Promise<void>;
    /** Takes a message as it comes, and resolves when it and its file are there. What else a room holds up is its affair. */
    deliver(message: RaceMessage): Promise<void>;
}

export interface Heat {
    /** When it began, on the machine's clock. */
    readonly began: number;
    readonly failures: readonly string[];
}

export function serveContestant(contestant: Contestant) {
    joinHostBridge();
    const handlers = {
        open: (start: Start) => contestant.open(start),
        race: (messages: readonly RaceMessage[]) => race(contestant, messages),
        usage,
    };
    serve(handlers);
    return handlers;
}
export type ContestantHandlers = ReturnType<typeof serveContestant>;

/** Hands out each message when it is due, whatever has become of those before it. */
async function race(contestant: Contestant, messages: readonly RaceMessage[]): Promise<Heat> {
    const began = now();
    const failures: string[] = [];
    const under: Promise<void>[] = [];
    for (const message of messages) {
        const early = began + message.atMs - now();
        if (early > 0) await sleep(early);
        const delivery = contestant.deliver(message).catch((error: unknown) => {
            failures.push(error instanceof Error ? error.message : String(error));
        });
        under.push(delivery);
    }
    await Promise.all(under);
    return { began, failures };
}
