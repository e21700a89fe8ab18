import type { ContestantHandlers, Heat } from "../../processes/race/contestant.ts";
import type { RaceMessage } from "../../processes/race/message.ts";
import type { Seen } from "../../processes/race/sightings.ts";
import type { Child } from "../../support/child.ts";
import type { Context } from "../../support/context.ts";
import type { Contestant } from "./contestants.ts";
import type { Track } from "./track.ts";

const WARM_UP_ROUNDS = 10;
const WARM_UP_BYTES = 1_000_000;

/** What became of a heat's messages. */
export interface Outcome {
    /** For each message, in their order, milliseconds from when it came until its event was accepted. */
    readonly toRoom: readonly number[];
    /** For each message with a file, until its event and its file were both there. */
    readonly toFile: readonly number[];
    /** From the first message until the last event. */
    readonly eventSeconds: number;
    /** Until everything was there. */
    readonly seconds: number;
    readonly bytes: number;
    readonly cpuSeconds: number;
    readonly peakRssMb: number;
}

interface Options {
    /** Files at once, of this project. Default 4. */
    readonly concurrency?: number;
    /** Started as docs/embedding.md advises. */
    readonly withRoom?: boolean;
}

export class Runner {
    readonly #child: Child<ContestantHandlers>;
    readonly #track: Track;

    private constructor(child: Child<ContestantHandlers>, track: Track) {
        this.#child = child;
        this.#track = track;
    }

    static async start(
        context: Context,
        name: Contestant,
        track: Track,
        { concurrency = 4, withRoom = false }: Options = {},
    ): Promise<Runner> {
        const child = context.start(`race/${name}`, { inBridge: true, withRoom });
        const { homeserverUrl, accessToken, serverName } = track;
        const dataDir = await context.folder();
        await child.call("open", { homeserverUrl, accessToken, serverName, dataDir, concurrency });
        return new Runner(child, track);
    }

    async run(messages: readonly RaceMessage[]): Promise<Outcome> {
        await this.#track.seen();
        const before = await this.#child.call("usage");
        const heat = await this.#child.call("race", messages);
        const after = await this.#child.call("usage");
        return {
            ...outcome(messages, heat, await this.#track.seen()),
            cpuSeconds: after.cpuSeconds - before.cpuSeconds,
            peakRssMb: after.peakRssMb,
        };
    }

    /**
     * Starts one, has it run, and stops it. That one of the field fails is a finding, and false; that this project
     * does ends the race.
     */
    static async during(
        context: Context,
        { contestant, track, ...options }: { contestant: Contestant; track: Track } & Options,
        action: (runner: Runner) => Promise<void>,
    ): Promise<boolean> {
        const runner = await Runner.start(context, contestant, track, options);
        try {
            await action(runner);
            return true;
        } catch (error) {
            if (contestant === "component") throw error;
            context.log(`${contestant} failed: ${error instanceof Error ? error.message : String(error)}`);
            return false;
        } finally {
            await runner.stop();
        }
    }

    async stop(): Promise<void> {
        await this.#child.stop();
    }
}

/** So that the first contestant meets a homeserver and a file server that are as warm as the last one's. */
export async function warmUpTrack(
    context: Context,
    track: Track,
    { rooms, urlOf }: { rooms: readonly Pick<RaceMessage, "roomId" | "sender">[]; urlOf: (size: number) => string },
): Promise<void> {
    const runner = await Runner.start(context, "bare-pipe", track);
    const file = { url: urlOf(WARM_UP_BYTES), size: WARM_UP_BYTES };
    for (let round = 0; round < WARM_UP_ROUNDS; round++) {
        await runner.run(rooms.map((room, i) => ({ ...room, key: `track ${round} ${i}`, atMs: 0, file })));
    }
    await runner.stop();
}

function outcome(messages: readonly RaceMessage[], { began, failures }: Heat, seen: Seen) {
    if (failures.length > 0) throw new Error(`${failures.length} of ${messages.length} failed: ${failures[0]}`);
    const events = new Map(seen.events.map((event) => [event.key, event]));
    const files = new Map(seen.files.map((file) => [file.url, file]));
    const toRoom: number[] = [];
    const toFile: number[] = [];
    let bytes = 0;
    let lastEvent = began;
    let last = began;
    for (const { key, atMs, file } of messages) {
        const event = events.get(key);
        if (event === undefined) throw new Error(`the homeserver saw no event of ${key}`);
        toRoom.push(event.at - began - atMs);
        lastEvent = Math.max(lastEvent, event.at);
        if (file === undefined) continue;
        const there = files.get(event.url ?? "");
        if (there?.bytes !== file.size)
            throw new Error(`the file of ${key} has ${there?.bytes} bytes, not ${file.size}`);
        const at = Math.max(event.at, there.at);
        toFile.push(at - began - atMs);
        last = Math.max(last, at);
        bytes += file.size;
    }
    return {
        toRoom,
        toFile,
        bytes,
        eventSeconds: (lastEvent - began) / 1000,
        seconds: (Math.max(last, lastEvent) - began) / 1000,
    };
}
