import type { Context } from "../../support/context.ts";
import type { Seen } from "../../processes/race/sightings.ts";
import { ALL, type Contestant } from "./contestants.ts";

/** Where a race is run: a homeserver, and who has seen what arrived there. */
export interface Track {
    readonly homeserverUrl: string;
    readonly accessToken: string;
    readonly serverName: string;
    seen(): Promise<Seen>;
}

/** The bare homeserver, which is never the bottleneck, and the remote network's file server. */
export async function bareTrack(context: Context): Promise<Track & { urlOf(size: number, rate?: number): string }> {
    const homeserver = context.start("homeserver");
    const remoteUrl = await context.start("remote").call("url");
    return {
        homeserverUrl: await homeserver.call("url"),
        accessToken: "token",
        serverName: "bench.example",
        seen: () => homeserver.call("seen"),
        urlOf: (size, rate) => `${remoteUrl}/file?size=${size}&etag=1${rate === undefined ? "" : `&rate=${rate}`}`,
    };
}

/** All of them, in an order that changes from run to run: what the machine does meanwhile meets each of them. */
export function inTurn(run: number): readonly Contestant[] {
    return ALL.map((_, place) => ALL[(place + run) % ALL.length] ?? "component");
}

/** A room of the bare homeserver and its ghost. */
export function room(number: number): { roomId: string; sender: string } {
    return { roomId: `!room${number}:bench.example`, sender: `@ghost_${number}:bench.example` };
}

export function tenRooms(): readonly ReturnType<typeof room>[] {
    return Array.from({ length: 10 }, (_, i) => room(i));
}
