import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import fc from "fast-check";
import { Reservations, RESERVATIONS, type Reservation, takenWrite } from "../../src/bridge/reservations.ts";
import { silentLogger } from "../../src/logger.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { Disk, MemoryStore } from "../support/memory-store.ts";
import { bounded, Clock } from "../support/model.ts";
import { plainBridge } from "../support/world.ts";

/**
 * The addresses that are kept ahead, against a homeserver of a few lines that lets each user hold five unused ones, and
 * a reference that is a list: which address is whose.
 */
const AHEAD = 2;
const PENDING = 5;
const LIFE_MS = 3_600_000;
const USERS = ["@ghost_a:example.org", "@ghost_b:example.org"];

/** `/create` as Synapse has it. */
class Homeserver {
    readonly unused = new Map<string, { user: string; expiresAt: number }>();
    /** Requests that came although the user was at its limit. */
    refused = 0;
    trouble = false;
    #count = 0;
    readonly #server: Server = createServer((request, response) => {
        request.resume();
        const user = new URL(request.url ?? "", "http://x").searchParams.get("user_id") ?? "";
        const answer = (status: number, body: object): void => {
            response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
        };
        if (this.trouble) return answer(503, {});
        if (this.pending(user) >= PENDING) {
            this.refused++;
            return answer(429, { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: LIFE_MS });
        }
        const uri = `mxc://example.org/m${this.#count++}`;
        const expiresAt = Date.now() + LIFE_MS;
        this.unused.set(uri, { user, expiresAt });
        answer(200, { content_uri: uri, unused_expires_at: expiresAt });
    });

    pending(user: string): number {
        const now = Date.now();
        return [...this.unused.values()].filter((one) => one.user === user && one.expiresAt > now).length;
    }

    async listen(): Promise<string> {
        await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
        return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    }

    close(): Promise<unknown> {
        this.#server.closeAllConnections();
        return new Promise((resolve) => this.#server.close(resolve));
    }
}

class Model {
    /** Addresses in use, by whom; a message's for ever, unless it was given back. */
    readonly used = new Map<string, Reservation>();
}

class Real {
    readonly disk = new Disk();
    readonly homeserver: Homeserver;
    readonly clock: Clock;
    readonly url: string;
    store = new MemoryStore(this.disk);
    pool: Reservations;

    constructor(homeserver: Homeserver, url: string, clock: Clock) {
        this.homeserver = homeserver;
        this.url = url;
        this.clock = clock;
        this.pool = this.#open();
    }

    #open(): Reservations {
        const users = new ActingUsers(plainBridge(this.url, "@bot:example.org"));
        return new Reservations({ store: this.store, users, logger: silentLogger, ahead: AHEAD });
    }

    async start(): Promise<void> {
        await this.store.open();
        await this.pool.start();
    }

    /** @param how `die`: what is on its way is never heard of. */
    async restart(how: "close" | "die"): Promise<void> {
        const before = this.pool;
        if (how === "close") await before.close();
        this.store = new MemoryStore(this.disk);
        this.pool = this.#open();
        await this.start();
        if (how === "die") await before.close();
    }

    journaled(): string[] {
        return [...this.disk.records.keys()]
            .filter((key) => key.startsWith(`${RESERVATIONS}\0`))
            .map((key) => key.slice(key.indexOf(" ") + 1));
    }

    /** Until the pool has filled up what it can. */
    async filled(user: string): Promise<void> {
        this.pool.keepAhead(user);
        // Closing waits for refills; a new object on the same disk goes on.
        await this.restart("close");
    }
}

type Command = fc.AsyncCommand<Model, Real>;

function command(name: string, run: (model: Model, real: Real) => Promise<void>): Command {
    return {
        check: () => true,
        async run(model, real) {
            await run(model, real);
            const journaled = real.journaled();
            for (const uri of journaled) expect(model.used.has(uri), `${uri} is in use and kept ahead`).to.equal(false);
            expect(new Set(journaled).size).to.equal(journaled.length);
        },
        toString: () => name,
    };
}

/** Someone uses an address from now on. */
async function use(model: Model, real: Real, reservation: Reservation, user: string): Promise<void> {
    const { contentUri } = reservation;
    expect(model.used.has(contentUri), `${contentUri} handed out twice`).to.equal(false);
    const known = real.homeserver.unused.get(contentUri);
    expect(known?.user, `${contentUri} is another's`).to.equal(user);
    expect((known?.expiresAt ?? 0) - Date.now(), "has a part of its life left").to.be.above(LIFE_MS / 5);
    model.used.set(contentUri, reservation);
    await real.store.commit([takenWrite(reservation)]);
}

const user = fc.constantFrom(...USERS);
const never = new AbortController().signal;

const commands = [
    user.map((id) =>
        command(`take(${id})`, async (model, real) => {
            const reservation = real.pool.takeWarm(id);
            if (reservation !== undefined) await use(model, real, reservation, id);
        }),
    ),
    user.map((id) =>
        command(`takeAndDie(${id})`, async (_model, real) => {
            // Never journaled: it is free again.
            real.pool.takeWarm(id);
            await real.restart("die");
        }),
    ),
    user.map((id) =>
        command(`obtain(${id})`, async (model, real) => {
            const [isFull, refused] = [real.homeserver.pending(id) >= PENDING, real.homeserver.refused];
            const obtained = await real.pool.obtain(id, never).catch(() => undefined);
            if (obtained === undefined) return void expect(real.homeserver.trouble).to.equal(true);
            if ("reservation" in obtained) return use(model, real, obtained.reservation, id);
            expect(isFull).to.equal(true);
            expect(real.homeserver.refused).to.equal(refused + 1);
            expect(obtained.blockedForMs).to.be.within(1, 60_000);
            // While it is known that the user is at its limit, nothing is asked for ahead.
            expect(real.pool.blockedFor(id)).to.be.above(0);
            real.pool.keepAhead(id);
            await real.pool.close();
            expect(real.homeserver.refused).to.equal(refused + 1);
            await real.restart("close");
        }),
    ),
    user.map((id) =>
        command(`keepAhead(${id})`, async (_model, real) => {
            const own = (): number =>
                [...real.disk.records.keys()].filter((key) => key.startsWith(`${RESERVATIONS}\0${id} `)).length;
            const before = own();
            const known = new Set(real.homeserver.unused.keys());
            await real.filled(id);
            // What was made is journaled: none is forgotten.
            const made = [...real.homeserver.unused.keys()].filter((uri) => !known.has(uri));
            for (const uri of made) expect(real.journaled(), uri).to.include(uri);
            // Filled up to the bound; more only where there was more, because it was given back.
            expect(own()).to.be.at.most(Math.max(AHEAD, before));
        }),
    ),
    fc.nat(20).map((index) =>
        command(`giveBack(${index})`, async (model, real) => {
            const [uri, reservation] = [...model.used][index % Math.max(1, model.used.size)] ?? [];
            if (uri === undefined || reservation === undefined || !real.homeserver.unused.has(uri)) return;
            model.used.delete(uri);
            await real.store.commit([real.pool.keptWrite(reservation)]);
            real.pool.giveBack(reservation);
        }),
    ),
    fc.nat(20).map((index) =>
        command(`upload(${index})`, async (model, real) => {
            const [uri, reservation] = [...model.used][index % Math.max(1, model.used.size)] ?? [];
            if (uri === undefined || reservation === undefined) return;
            real.homeserver.unused.delete(uri);
            real.pool.placeFreed(reservation.userId);
        }),
    ),
    fc.constantFrom("close" as const, "die" as const).map((how) =>
        command(how, async (_model, real) => {
            const before = new Set(real.journaled());
            await real.restart(how);
            expect(real.pool.count, "what was kept ahead, less what has run out").to.be.at.most(before.size);
            expect(real.pool.count).to.equal(real.journaled().length);
        }),
    ),
    fc.nat(LIFE_MS).map((ms) => command(`wait(${ms})`, async (_model, real) => real.clock.advance(ms))),
    fc.boolean().map((trouble) =>
        command(`trouble(${trouble})`, async (_model, real) => {
            real.homeserver.trouble = trouble;
        }),
    ),
];

describe("the model of the reservations", function () {
    this.timeout(120_000);

    it("hands out each address once, never one that ends, and asks for no more than a user may hold", async () => {
        const clock = new Clock();
        try {
            await fc.assert(
                fc.asyncProperty(fc.commands(commands, { maxCommands: 40, size: "max" }), async (run) => {
                    const homeserver = new Homeserver();
                    const url = await homeserver.listen();
                    const model = new Model();
                    const real = new Real(homeserver, url, clock);
                    await real.start();
                    try {
                        await fc.asyncModelRun(() => ({ model, real }), run);
                        for (const id of USERS) expect(homeserver.pending(id)).to.be.at.most(PENDING);
                    } finally {
                        await real.pool.close();
                        await homeserver.close();
                    }
                }),
                bounded(100),
            );
        } finally {
            clock.restore();
        }
    });
});
