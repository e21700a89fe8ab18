import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import type { Intercept } from "../../src/dev/homeserver/index.ts";
import { BridgeMedia, type RemoteMessage } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import type { Write } from "../../src/store/store.ts";
import { bodies } from "../support/download.ts";
import { copyImage } from "../support/image.ts";
import { assertBounded } from "../support/model.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "../support/world.ts";

/**
 * The rooms' lines against a reference that is a list for each room: what was said, in the order of the calls. The
 * homeserver forgets every transaction at once; its failures come as the model says.
 */
const ROOMS = 2;

class Model {
    readonly said: string[][] = Array.from({ length: ROOMS }, () => []);
    count = 0;
}

/** The journal, and what has come into it: of what has not, no order is promised when the process dies. */
class Watched extends LevelStore {
    readonly journaled = new Set<string>();

    override async commit(writes: readonly Write[]): Promise<void> {
        await super.commit(writes);
        for (const { collection, key } of writes) if (collection === "message") this.journaled.add(key);
    }
}

type Fault = "429" | "503" | "lost before" | "lost after";

class Real {
    readonly world: World;
    readonly rooms: readonly string[];
    readonly directory: string;
    readonly faults: Fault[] = [];
    readonly sending: Promise<unknown>[] = [];
    media: BridgeMedia;
    journal: Watched | undefined;
    cutOff = false;
    /** No event is taken, as long as it lasts. */
    outage = false;
    /** What is to be the last event of this life: it arrives, and its answer is never heard of. */
    last: "awaited" | { readonly path: string } | undefined;
    #lives = 0;

    constructor(world: World, rooms: readonly string[], directory: string) {
        this.world = world;
        this.rooms = rooms;
        this.directory = directory;
        this.media = this.#open();
    }

    get dataDir(): string {
        return join(this.directory, `life${this.#lives}`);
    }

    #open(): BridgeMedia {
        return new BridgeMedia(this.world.bridge, {
            dataDir: this.dataDir,
            allowPrivateAddresses: true,
            store: (path) => (this.journal = new Watched(path)),
        });
    }

    decide(path: string): Intercept | undefined {
        if (this.cutOff) return { drop: "before" };
        if (!path.includes("/send/")) return undefined;
        if (this.last === "awaited") {
            this.last = { path };
            this.cutOff = true;
            return { drop: "after" };
        }
        if (this.outage) return { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 20 } };
        switch (this.faults.shift()) {
            case "429":
                return { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 1 } };
            case "503":
                return { status: 503, body: {} };
            case "lost before":
                return { drop: "before" };
            case "lost after":
                return { drop: "after" };
            case undefined:
                return undefined;
        }
    }

    async close(): Promise<void> {
        await this.media.close();
        this.media = this.#open();
        await this.media.start();
    }

    /** The process is gone from one instant to the next; its files are as they were at that instant. */
    async die(): Promise<void> {
        this.cutOff = true;
        const image = join(this.directory, `life${this.#lives + 1}`);
        await copyImage(this.dataDir, image);
        await this.media.close();
        this.cutOff = false;
        this.last = undefined;
        this.#lives++;
        this.media = this.#open();
        await this.media.start();
    }
}

type Command = fc.AsyncCommand<Model, Real>;

function command(name: string, run: (model: Model, real: Real) => Promise<void>): Command {
    return { check: () => true, run, toString: () => name };
}

const RESTARTS = { minLength: 1, maxLength: 2 };

const commands = [
    fc.nat(ROOMS - 1).map((room) => command(`say(${room})`, say(room, 1))),
    fc.nat(ROOMS - 1).map((room) => command(`sayThree(${room})`, say(room, 3))),
    fc
        .constantFrom<Fault>("429", "503", "lost before", "lost after")
        .map((fault) => command(fault, async (_model, real) => void real.faults.push(fault))),
    fc.constant(command("close", (_model, real) => real.close())),
    fc.constant(command("die", (_model, real) => real.die())),
    fc.nat(ROOMS - 1).map((room) => command(`dieUnanswered(${room})`, dieUnanswered(room))),
    fc
        .tuple(fc.nat(ROOMS - 1), fc.array(fc.constantFrom("close" as const, "die" as const), RESTARTS))
        .map(([room, restarts]) => command(`outage(${room}, ${restarts.join()})`, outage(room, restarts))),
    fc.nat(30).map((ms) => command(`wait(${ms})`, () => new Promise((resolve) => setTimeout(resolve, ms)))),
    fc.constant(
        command("sayAgain", async (model, real) => {
            // What a bridge does that does not know whether it has said it.
            const last = model.said[0]?.at(-1);
            if (last !== undefined) real.sending.push(real.media.send(messageOf(real, 0, last)).catch(() => {}));
        }),
    ),
];

function say(room: number, times: number) {
    return async (model: Model, real: Real): Promise<void> => {
        for (let time = 0; time < times; time++) {
            const body = `${room}/${model.count++}`;
            model.said[room]?.push(body);
            // Not awaited: the order is that of the calls.
            real.sending.push(real.media.send(messageOf(real, room, body)).catch(() => {}));
        }
        const said = model.said[room]?.slice(-times) ?? [];
        await until(() => said.every((body) => real.journal?.journaled.has(body)), { what: "all in the journal" });
    };
}

/** Leaves an event in the room that the journal does not know to be there. */
function dieUnanswered(room: number) {
    return async (model: Model, real: Real): Promise<void> => {
        real.last = "awaited";
        await say(room, 1)(model, real);
        await until(() => {
            const { last } = real;
            if (typeof last !== "object") return false;
            return real.world.homeserver.requests.some(({ path, status }) => path === last.path && status === 200);
        });
        await real.die();
    };
}

/** Lives that can only journal, one after the other: what each has said stands behind what the ones before it have. */
function outage(room: number, restarts: readonly ("close" | "die")[]) {
    return async (model: Model, real: Real): Promise<void> => {
        real.outage = true;
        await say(room, 2)(model, real);
        for (const how of restarts) {
            await (how === "close" ? real.close() : real.die());
            await say(room, 2)(model, real);
        }
        real.outage = false;
    };
}

function messageOf(real: Real, room: number, body: string): RemoteMessage {
    const sender = real.world.ghost("model");
    return { id: body, roomId: real.rooms[room] ?? "", sender, content: { msgtype: "m.text", body } };
}

/** A line that has lost a message would be waited for until the end of the test. */
async function inTime(sent: Promise<unknown>, body: string): Promise<void> {
    const ended = sent.then(() => "sent");
    let outcome: string | undefined;
    ended.then(
        () => (outcome = "sent"),
        () => (outcome = "refused"),
    );
    await until(() => outcome, { what: `an end of ${body}`, limitMs: 40_000 });
    await ended;
}

describe("the model of the outbox", function () {
    this.timeout(180_000);
    let world: World;
    before(async () => {
        world = await openWorld({ txnMemoryMs: 0 });
    });
    after(() => world.close());

    it("sends each message once and in the order of the calls, through failures, restarts and deaths", async () => {
        await assertBounded(
            fc.asyncProperty(fc.commands(commands, { maxCommands: 14, size: "max" }), async (run) => {
                const directory = await mkdtemp(join(tmpdir(), "outbox-model-"));
                const sender = world.ghost("model");
                const rooms = [await world.room(sender), await world.room(sender)];
                const model = new Model();
                const real = new Real(world, rooms, directory);
                const stop = world.homeserver.intercept(({ path }) => real.decide(path));
                await real.media.start();
                try {
                    await fc.asyncModelRun(() => ({ model, real }), run);
                    // Everything that is journaled comes before this, and what is not is said again.
                    for (const [room, said] of model.said.entries()) {
                        for (const body of said) await inTime(real.media.send(messageOf(real, room, body)), body);
                        expect(bodies(world.homeserver, rooms[room] ?? "")).to.deep.equal(said);
                    }
                } finally {
                    stop();
                    await real.media.close();
                    await Promise.allSettled(real.sending);
                    await rm(directory, { recursive: true, force: true });
                }
            }),
            12,
        );
    });
});
