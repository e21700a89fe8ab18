import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { Reservations } from "../../src/bridge/reservations.ts";
import type { Blocked } from "../../src/bridge/user-limits.ts";
import { silentLogger } from "../../src/logger.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { Unrepeated } from "../../src/matrix/unrepeated.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { Clock } from "../support/model.ts";
import { until } from "../support/until.ts";
import { plainBridge } from "../support/world.ts";

const USER = "@ghost_a:example.org";

describe("a user that gets no address", () => {
    let clock: Clock;
    let server: Server;
    let pool: Reservations;
    let answer: { status: number; body: object };
    let warnings: string[];
    let asked: number;
    beforeEach(async () => {
        clock = new Clock();
        [warnings, asked] = [[], 0];
        server = createServer((request, response) => {
            request.resume();
            asked++;
            response.writeHead(answer.status, { "content-type": "application/json" }).end(JSON.stringify(answer.body));
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
        const store = new MemoryStore();
        await store.open();
        const logger = { ...silentLogger, warn: (text: string) => void warnings.push(text) };
        pool = new Reservations({
            store,
            users: new ActingUsers(plainBridge(url, "@bot:example.org")),
            logger,
            ahead: 1,
            uris: new Unrepeated(),
        });
    });
    afterEach(async () => {
        clock.restore();
        await pool.close();
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
    });

    const limited = { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 80_000_000 } };
    const failing = { status: 500, body: { errcode: "M_UNKNOWN" } };
    const blocked = async (): Promise<Blocked> => {
        const obtained = await pool.obtain(USER, new AbortController().signal);
        if ("reservation" in obtained) throw new Error("it got one");
        return obtained;
    };
    const isLasting = async (): Promise<boolean> => (await blocked()).isLasting;

    for (const refusal of [limited, failing]) {
        it(`for five seconds goes without (${refusal.status}), and waits no longer to find out`, async () => {
            answer = refusal;
            const first = await blocked();
            expect(first.isLasting).to.equal(false);
            expect(first.blockedForMs).to.be.within(1, 5000);
            // Its uploads finish, which does not help.
            pool.placeFreed(USER);
            clock.advance(4000);
            expect((await blocked()).blockedForMs).to.be.within(1, 1000);
            clock.advance(1000);
            expect([await isLasting(), await isLasting()]).to.deep.equal([true, true]);
            expect(warnings).to.have.length(1);
        });
    }

    it("waits again after it has got one, or was not refused for long", async () => {
        answer = limited;
        expect(await isLasting()).to.equal(false);
        clock.advance(6000);
        answer = { status: 200, body: { content_uri: "mxc://example.org/1" } };
        expect(await pool.obtain(USER, new AbortController().signal)).to.have.property("reservation");
        answer = limited;
        expect(await isLasting()).to.equal(false);
        clock.advance(600_000);
        expect(await isLasting()).to.equal(false);
        clock.advance(6000);
        expect(await isLasting()).to.equal(true);
    });

    it("and is so again long afterwards is told of again", async () => {
        answer = limited;
        for (let time = 1; time <= 2; time++) {
            expect(await isLasting()).to.equal(false);
            clock.advance(6000);
            expect(await isLasting()).to.equal(true);
            expect(warnings).to.have.length(time);
            clock.advance(600_000);
        }
    });

    it("waits for one as long as anybody, when only what is kept ahead was refused", async () => {
        answer = limited;
        pool.keepAhead(USER);
        await until(() => pool.blockedFor(USER) > 0);
        expect(asked).to.equal(1);
        clock.advance(6000);
        expect(await isLasting()).to.equal(false);
    });

    it("has not been without when it has taken one that was at hand", async () => {
        answer = limited;
        expect(await isLasting()).to.equal(false);
        clock.advance(6000);
        pool.giveBack({ contentUri: "mxc://example.org/1", userId: USER, createdAt: Date.now() });
        expect(await pool.obtain(USER, new AbortController().signal)).to.have.property("reservation");
        expect(await isLasting()).to.equal(false);
    });

    it("does not ask again at once, though the server says it may", async () => {
        answer = { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 0 } };
        expect((await blocked()).blockedForMs).to.be.at.least(200);
        clock.advance(6000);
        expect(await blocked()).to.deep.equal({ blockedForMs: 200, isLasting: true });
    });

    it("because the server fails behind its proxy is told so, and waits for it", async () => {
        answer = { status: 500, body: {} };
        const error = await pool.obtain(USER, new AbortController().signal).catch((thrown: unknown) => thrown);
        expect(error).to.include({ code: "HOMESERVER_FAILING" });
    });
});
