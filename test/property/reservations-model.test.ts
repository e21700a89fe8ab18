import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import { Reservations, RESERVATIONS, type Reservation, takenWrite } from "../../src/bridge/reservations.ts";
import { silentLogger } from "../../src/logger.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { Unrepeated } from "../../src/matrix/unrepeated.ts";
import { steadyNow } from "../../src/uploads/steady-clock.ts";
import { Disk, MemoryStore } from "../support/memory-store.ts";
import { assertBounded, Clock } from "../support/model.ts";
import { until } from "../support/until.ts";
import { plainBridge } from "../support/world.ts";

/**
 * The addresses that are kept ahead, against a homeserver of a few lines that lets each user hold five unused ones, and
 * a reference that is a few lists: which address is whose, which are at hand, and until when nothing is to be asked for.
 * From them follows how many requests there are to be; one more is found as well as one less.
 */
const AHEAD = 2;
const AHEAD_IN_ALL = 400;
const PENDING = 5;
const LIFE_MS = 3_600_000;
const LONGEST_BLOCK_MS = 60_000;
/** So long the component and the reference may take to see the same moment. */
const SLACK_MS = 10_000;
const USERS = ["@ghost_a:example.org", "@ghost_b:example.org"];

/** `/create` as Synapse has it. */
class Homeserver {
    readonly unused = new Map<string, { user: string; expiresAt: number }>();
    requests = 0;
    trouble = false;
    #count = 0;
    readonly #server: Server = createServer((request, response) => {
        request.resume();
        const user = new URL(request.url ?? "", "http://x").searchParams.get("user_id") ?? "";
        const answer = (status: number, body: object): void => {
            response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
        };
        this.requests++;
        if (this.trouble) return answer(503, {});
        if (this.pending(user) >= PENDING) {
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
    /** At hand, in the order in which they are to be taken. */
    readonly warm = new Map<string, string[]>(USERS.map((user) => [user, []]));
    /** Of users that do nothing here. */
    others = 0;
    /** How many there are to have been. */
    requests = 0;
    /** Since when, and until when, a user is known to be at its limit. */
    readonly blocked = new Map<string, { since: number; until: number }>();

    get count(): number {
        return [...this.warm.values()].reduce((sum, { length }) => sum + length, this.others);
    }

    own(user: string): string[] {
        return this.warm.get(user) ?? [];
    }

    block(user: string): void {
        const now = steadyNow();
        this.blocked.set(user, { since: this.blocked.get(user)?.since ?? now, until: now + LONGEST_BLOCK_MS });
    }

    /** Undefined so shortly before its end that the reference cannot tell. */
    isBlocked(user: string): boolean | undefined {
        const left = (this.blocked.get(user)?.until ?? 0) - steadyNow();
        return left > SLACK_MS ? true : left > 0 ? undefined : false;
    }
}

class Real {
    readonly disk: Disk;
    readonly homeserver: Homeserver;
    readonly clock: Clock;
    readonly url: string;
    /** Refills that ended early, and said so. */
    givenUp = 0;
    store: MemoryStore;
    pool: Reservations;

    constructor(homeserver: Homeserver, url: string, clock: Clock, disk: Disk) {
        this.homeserver = homeserver;
        this.url = url;
        this.clock = clock;
        this.disk = disk;
        this.store = new MemoryStore(disk);
        this.pool = this.#open();
    }

    #open(): Reservations {
        const users = new ActingUsers(plainBridge(this.url, "@bot:example.org"));
        const logger = { ...silentLogger, debug: () => void this.givenUp++ };
        return new Reservations({ store: this.store, users, logger, ahead: AHEAD, uris: new Unrepeated() });
    }

    async start(): Promise<void> {
        await this.store.open();
        await this.pool.start();
    }

    /** @param how `die`: what is on its way is never heard of. */
    async restart(model: Model, how: "close" | "die"): Promise<void> {
        const before = this.pool;
        if (how === "close") await before.close();
        expect(this.homeserver.requests, "requests until the end of a life").to.equal(model.requests);
        this.store = new MemoryStore(this.disk);
        this.pool = this.#open();
        await this.start();
        if (how === "die") await before.close();
        model.blocked.clear();
        for (const user of USERS) model.warm.set(user, this.journaled(user));
        model.others = this.journaled("@other").length;
    }

    /** In the order of their keys, as a start reads them. */
    journaled(user = ""): string[] {
        return [...this.disk.records.keys()]
            .filter((key) => key.startsWith(`${RESERVATIONS}\0${user}`))
            .toSorted()
            .map((key) => key.slice(key.indexOf(" ") + 1));
    }

    isWorthTaking(uri: string): boolean {
        return (this.homeserver.unused.get(uri)?.expiresAt ?? 0) - Date.now() > LIFE_MS / 4;
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
            expect(real.pool.count, "at hand").to.equal(model.count);
            expect(real.homeserver.requests, "requests").to.equal(model.requests);
            for (const id of USERS) waitsAsLong(model, real, id);
        },
        toString: () => name,
    };
}

/** Until it may be asked again: the longer, the longer the user has been at its limit. */
function waitsAsLong(model: Model, real: Real, id: string): void {
    const isBlocked = model.isBlocked(id);
    if (isBlocked === false) expect(real.pool.blockedFor(id), `${id} is not at its limit`).to.equal(0);
    if (isBlocked !== true) return;
    const since = steadyNow() - (model.blocked.get(id)?.since ?? 0);
    expect(real.pool.blockedFor(id), `${id} is at its limit`).to.be.within(
        Math.min(Math.max(200, since), LONGEST_BLOCK_MS),
        Math.min(since + SLACK_MS, LONGEST_BLOCK_MS) * 1.5,
    );
}

/** What the pool has at hand and is still good; the others it drops. */
function takeFromReference(model: Model, real: Real, id: string): string | undefined {
    const own = model.own(id);
    for (let uri = own.shift(); uri !== undefined; uri = own.shift()) if (real.isWorthTaking(uri)) return uri;
    return undefined;
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

async function take(model: Model, real: Real, id: string): Promise<void> {
    const expected = takeFromReference(model, real, id);
    const reservation = real.pool.takeWarm(id);
    expect(reservation?.contentUri).to.equal(expected);
    if (reservation !== undefined) await use(model, real, reservation, id);
}

/** One way or the other. */
async function obtain(model: Model, real: Real, id: string): Promise<"obtained" | "refused" | "failed"> {
    const expected = takeFromReference(model, real, id);
    const isFull = real.homeserver.pending(id) >= PENDING;
    if (expected === undefined) model.requests++;
    const obtained = await real.pool.obtain(id, never).catch(() => undefined);
    if (obtained === undefined) {
        expect(real.homeserver.trouble).to.equal(true);
        return "failed";
    }
    if ("reservation" in obtained) {
        if (expected !== undefined) expect(obtained.reservation.contentUri).to.equal(expected);
        await use(model, real, obtained.reservation, id);
        return "obtained";
    }
    expect(isFull).to.equal(true);
    expect(obtained.blockedForMs).to.be.within(1, LONGEST_BLOCK_MS);
    model.block(id);
    return "refused";
}

/** Fills up for some users at the same time, and waits until it is done. */
async function keepAhead(model: Model, real: Real, ids: readonly string[]): Promise<void> {
    const { homeserver } = real;
    const isNearLimit = (id: string): boolean => homeserver.pending(id) + AHEAD > PENDING;
    if (ids.some((id) => model.isBlocked(id) === undefined)) return;
    let inAll = Math.max(0, AHEAD_IN_ALL - model.count);
    // Who of several gets the last places is not said where one of them may be refused his.
    if (ids.length > 1 && inAll < AHEAD * ids.length && (homeserver.trouble || ids.some(isNearLimit))) return;
    let made = 0;
    let givenUp = 0;
    for (const id of ids) {
        if (model.isBlocked(id) === true) continue;
        const wanted = Math.min(AHEAD - model.own(id).length, inAll);
        if (wanted <= 0) continue;
        const fit = homeserver.trouble ? 0 : Math.min(wanted, PENDING - homeserver.pending(id));
        made += fit;
        inAll -= fit;
        if (fit < wanted) givenUp++;
    }
    const known = new Set(homeserver.unused.keys());
    const before = { givenUp: real.givenUp, count: model.count };
    for (const id of ids) real.pool.keepAhead(id);
    // A second call for the same user changes nothing.
    for (const id of ids) real.pool.keepAhead(id);
    model.requests += made + givenUp;
    await until(() => real.givenUp - before.givenUp >= givenUp && real.pool.count - before.count >= made);
    for (let turns = 0; turns < 3; turns++) await turn();
    expect(real.givenUp - before.givenUp, "refills that ended early").to.equal(givenUp);
    for (const [uri, { user }] of homeserver.unused) {
        if (known.has(uri)) continue;
        model.own(user).push(uri);
        // What was made is journaled: none is forgotten.
        expect(real.journaled(user), uri).to.include(uri);
    }
    for (const id of ids) {
        const isShort = model.own(id).length < AHEAD && model.count < AHEAD_IN_ALL;
        if (isShort && !homeserver.trouble && model.isBlocked(id) === false) model.block(id);
    }
}

const user = fc.constantFrom(...USERS);
const others = fc.constantFrom(0, 0, AHEAD_IN_ALL - 3, AHEAD_IN_ALL - 1);
const never = new AbortController().signal;

const commands = [
    user.map((id) => command(`take(${id})`, (model, real) => take(model, real, id))),
    user.map((id) =>
        command(`takeAndDie(${id})`, async (model, real) => {
            // Never journaled: it is free again.
            real.pool.takeWarm(id);
            await real.restart(model, "die");
        }),
    ),
    user.map((id) => command(`obtain(${id})`, async (model, real) => void (await obtain(model, real, id)))),
    user.map((id) =>
        command(`exhaust(${id})`, async (model, real) => {
            // As many as there are, and one that is refused: it is not what one in a hundred runs comes to by chance.
            for (let last = "obtained"; last === "obtained"; ) last = await obtain(model, real, id);
        }),
    ),
    user.map((id) => command(`keepAhead(${id})`, (model, real) => keepAhead(model, real, [id]))),
    fc.constant(command("keepAhead(both)", (model, real) => keepAhead(model, real, USERS))),
    user.map((id) =>
        command(`keepAheadAndClose(${id})`, async (model, real) => {
            const known = new Set(real.homeserver.unused.keys());
            real.pool.keepAhead(id);
            // Lets what is on its way arrive, and begins no other.
            await real.pool.close();
            const made = [...real.homeserver.unused.keys()].filter((uri) => !known.has(uri));
            for (const uri of made) expect(real.journaled(), uri).to.include(uri);
            expect(made.length).to.be.at.most(Math.max(0, AHEAD - model.own(id).length));
            expect(real.homeserver.requests - model.requests).to.be.within(made.length, made.length + 1);
            model.requests = real.homeserver.requests;
            await real.restart(model, "close");
        }),
    ),
    fc.nat(20).map((index) =>
        command(`giveBack(${index})`, async (model, real) => {
            const [uri, reservation] = [...model.used][index % Math.max(1, model.used.size)] ?? [];
            if (uri === undefined || reservation === undefined || !real.homeserver.unused.has(uri)) return;
            model.used.delete(uri);
            await real.store.commit([real.pool.keptWrite(reservation)]);
            real.pool.giveBack(reservation);
            model.own(reservation.userId).push(uri);
        }),
    ),
    fc.nat(20).map((index) =>
        command(`upload(${index})`, async (model, real) => {
            const [uri, reservation] = [...model.used][index % Math.max(1, model.used.size)] ?? [];
            if (uri === undefined || reservation === undefined) return;
            real.homeserver.unused.delete(uri);
            real.pool.placeFreed(reservation.userId);
            model.blocked.delete(reservation.userId);
        }),
    ),
    fc.constantFrom("close" as const, "die" as const).map((how) =>
        command(how, async (model, real) => {
            const before = new Set(real.journaled());
            await real.restart(model, how);
            expect(real.pool.count, "what was kept ahead, less what has run out").to.be.at.most(before.size);
            expect(real.pool.count).to.equal(real.journaled().length);
        }),
    ),
    fc
        .oneof(fc.nat(LIFE_MS), fc.nat(2 * LONGEST_BLOCK_MS))
        .map((ms) => command(`wait(${ms})`, async (_model, real) => real.clock.advance(ms))),
    fc.boolean().map((trouble) =>
        command(`trouble(${trouble})`, async (_model, real) => {
            real.homeserver.trouble = trouble;
        }),
    ),
];

/** A disk with addresses of users that do nothing: so many that the bound for all together is near. */
function diskOf(others: number): Disk {
    const disk = new Disk();
    const [createdAt, expiresAt] = [Date.now(), Date.now() + 10_000 * LIFE_MS];
    for (let index = 0; index < others; index++) {
        const [userId, contentUri] = [`@other_${index}:example.org`, `mxc://example.org/other${index}`];
        const record = JSON.stringify({ contentUri, userId, createdAt, expiresAt });
        disk.records.set(`${RESERVATIONS}\0${userId} ${contentUri}`, record);
    }
    return disk;
}

describe("the model of the reservations", function () {
    this.timeout(120_000);

    it("hands out each address once, never one that ends, and asks for no more than a user may hold", async () => {
        const clock = new Clock();
        try {
            await assertBounded(
                fc.asyncProperty(fc.commands(commands, { maxCommands: 40, size: "max" }), others, async (run, many) => {
                    const homeserver = new Homeserver();
                    const url = await homeserver.listen();
                    const model = new Model();
                    const real = new Real(homeserver, url, clock, diskOf(many));
                    await real.start();
                    model.others = many;
                    try {
                        await fc.asyncModelRun(() => ({ model, real }), run);
                        await real.restart(model, "close");
                        for (const id of USERS) expect(homeserver.pending(id)).to.be.at.most(PENDING);
                    } finally {
                        await real.pool.close();
                        await homeserver.close();
                    }
                }),
                100,
            );
        } finally {
            clock.restore();
        }
    });
});
