import { inspect } from "node:util";
import { expect } from "chai";
import { BridgeMedia, type IntentLike, type MediaError } from "../../src/index.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { textMessage } from "../support/messages.ts";
import { AS_TOKEN, intentOf, openWorld, type World } from "../support/world.ts";

/** What matrix-bot-sdk throws where the answer is no Matrix error: the answer, with the request that it belongs to. */
function thrownAnswer(statusCode: number): object {
    return { statusCode, body: "<html>", request: { headers: { Authorization: `Bearer ${AS_TOKEN}` } } };
}

/** What a proxy or a firewall refuses with. */
const PAGE = { status: 403, body: "<html>Forbidden</html>", headers: { "content-type": "text/html" } };

describe("a sender that is not in its room", () => {
    let world: World;
    beforeEach(async () => {
        world = await openWorld();
    });
    afterEach(() => world.close());

    /** Sends a text as somebody whose SDK joins like this; resolves with what was logged. */
    async function sentWith(join: (orig: () => Promise<unknown>) => Promise<unknown>): Promise<string> {
        const alice = world.ghost("alice");
        await intentOf(world.bridge, alice).ensureRegistered();
        const roomId = await world.room();
        const logged: unknown[] = [];
        const note = (...said: unknown[]): void => void logged.push(said);
        const getIntent = (userId = world.bot): IntentLike => {
            const intent = intentOf(world.bridge, userId);
            return { ...intent, join: (id) => join(async () => intent.join?.(id)) };
        };
        const logger = { debug: note, info: note, warn: note, error: note };
        const media = new BridgeMedia({ getIntent }, { dataDir: world.dataDir, logger });
        await media.start();
        const { eventId } = await media.send(textMessage(roomId, alice, "hello"));
        expect(world.homeserver.events(roomId).map(({ event_id }) => event_id)).to.include(eventId);
        await media.close();
        return inspect(logged, { depth: null, showHidden: true, maxStringLength: null });
    }

    it("comes in once the homeserver is there again, and the log has nothing of what the SDK threw", async () => {
        let tries = 0;
        const logged = await sentWith(async (join) => {
            if (++tries === 1) throw thrownAnswer(502);
            return join();
        });
        expect(tries).to.equal(2);
        expect(logged).to.contain("A sender could not be brought into its room").and.to.contain("HOMESERVER_FAILING");
        expect(logged).not.to.contain(AS_TOKEN);
    });

    it("comes in once a proxy has ceased to refuse its joins and its invitation by pages", async () => {
        const bob = world.ghost("bob");
        const roomId = await world.room();
        let pages = 0;
        world.homeserver.intercept(({ path }) =>
            // As many as a try of each way in meets.
            /\/(?:join|invite)\b/.test(path) && pages++ < 3 ? PAGE : undefined,
        );
        const media = world.component();
        await media.start();
        const { eventId } = await media.send(textMessage(roomId, bob, "hello"));
        expect(world.homeserver.events(roomId).map(({ event_id }) => event_id)).to.include(eventId);
    });

    it("comes in also where its sendings were refused by pages before, each of which had nobody join", async () => {
        const bob = world.ghost("bob");
        const roomId = await world.room();
        const asked: string[] = [];
        world.homeserver.intercept(({ path }) => {
            const [, what] = /\/(send|join|invite)\b/.exec(path) ?? [];
            if (what === undefined) return undefined;
            asked.push(what);
            return asked.length <= 2 ? PAGE : undefined;
        });
        const media = world.component();
        await media.start();
        const { eventId } = await media.send(textMessage(roomId, bob, "hello"));
        expect(world.homeserver.events(roomId).map(({ event_id }) => event_id)).to.include(eventId);
        expect(asked).to.deep.equal(["send", "send", "send", "join", "send"]);
    });

    it("comes in by another way where the SDK only says that its own did not work", async () => {
        const logged = await sentWith(() => Promise.reject(new Error(`Failed to join room with Bearer ${AS_TOKEN}`)));
        expect(logged).to.contain("Failed to join room").and.not.to.contain(AS_TOKEN);
    });

    it("comes in by another way also where the SDK throws what is no error", async () => {
        const { statusCode: _, ...nothing } = thrownAnswer(0) as { statusCode: number };
        const logged = await sentWith(() => Promise.reject(nothing));
        expect(logged).to.contain("A sender could not be brought into its room").and.not.to.contain(AS_TOKEN);
    });

    for (const status of [302, 403, 502]) {
        it(`leaves a thrown answer with ${status} out of its errors`, async () => {
            const fails = () => Promise.reject(thrownAnswer(status));
            const intent: IntentLike = { userId: "@a:b", ensureRegistered: fails, join: fails };
            const user = new ActingUsers({ getIntent: () => intent }).get("@a:b");
            for (const action of [() => user.ensureRegistered(), () => user.join("!a:b")]) {
                const error: unknown = await action().catch((thrown: unknown) => thrown);
                expect(error).to.include({ name: "MediaError", status });
                expect(inspect(error, { depth: null, showHidden: true })).not.to.contain(AS_TOKEN);
            }
        });
    }

    it("is refused for good by what its intent throws, in whatever shape, and its room goes on", async () => {
        const forms: object[] = [
            { errcode: "M_EXCLUSIVE" },
            { errcode: "M_EXCLUSIVE", httpStatus: 400 },
            Object.assign(new Error("no"), { errcode: "M_FORBIDDEN", status: 403 }),
            { response: { status: 403, data: { errcode: "M_FORBIDDEN" } } },
            { data: { errcode: "M_FORBIDDEN" } },
        ];
        const [alice, stranger] = [world.ghost("alice"), "@other:example.org"];
        const roomId = await world.room(alice);
        let thrown: object | undefined;
        const getIntent = (userId = world.bot): IntentLike => {
            const intent = intentOf(world.bridge, userId);
            const refused = async () => {
                throw thrown;
            };
            return userId === stranger ? { ...intent, ensureRegistered: refused, join: refused } : intent;
        };
        const media = new BridgeMedia({ getIntent }, { dataDir: world.dataDir });
        await media.start();
        for (thrown of forms) {
            const refused = media.send(textMessage(roomId, stranger, "no")).catch(({ code }: MediaError) => code);
            const next = media.send(textMessage(roomId, alice, "yes"));
            expect(await refused).to.equal("FORBIDDEN");
            await next;
        }
        await media.close();
    });

    it("is known already where its intent throws that, and what passes is told as that", async () => {
        const registered = (thrown: object) => {
            const intent: IntentLike = { userId: "@a:b", ensureRegistered: () => Promise.reject(thrown) };
            const user = new ActingUsers({ getIntent: () => intent }).get("@a:b");
            return user.ensureRegistered().catch((error: MediaError) => error);
        };
        for (const thrown of [{ errcode: "M_USER_IN_USE" }, { errcode: "M_USER_IN_USE", statusCode: 400 }])
            expect(await registered(thrown)).to.equal(undefined);
        const wait = { errcode: "M_LIMIT_EXCEEDED", data: { retry_after_ms: 1500 } };
        expect(await registered(wait)).to.include({ code: "HOMESERVER_RATE_LIMITED", retryAfterMs: 1500 });
        expect(await registered({ httpStatus: 502 })).to.include({ code: "HOMESERVER_FAILING", status: 502 });
        expect(await registered({ response: { statusCode: 401 } })).to.include({ code: "HOMESERVER_TOKEN_REFUSED" });
        expect(await registered({ errcode: "M_UNKNOWN_TOKEN" })).to.include({ code: "HOMESERVER_TOKEN_REFUSED" });
        expect(await registered({ errcode: "M_UNKNOWN" })).to.include({ code: "HOMESERVER_FAILING" });
        for (const thrown of [{ errcode: 1 }, { errcode: "SQLITE" }, { status: 0 }, { status: 200 }])
            expect(await registered(thrown)).to.include({ code: "HOMESERVER_FAILING", status: undefined });
    });

    it("keeps the cause of an error that is none of the homeserver's", async () => {
        const cause = new Error("connect ECONNREFUSED");
        const intent: IntentLike = { userId: "@a:b", ensureRegistered: () => Promise.reject(cause) };
        const user = new ActingUsers({ getIntent: () => intent }).get("@a:b");
        const error: unknown = await user.ensureRegistered().catch((thrown: unknown) => thrown);
        expect(error).to.include({ code: "HOMESERVER_FAILING", cause });
    });
});
