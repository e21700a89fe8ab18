import { inspect } from "node:util";
import { expect } from "chai";
import { BridgeMedia, type IntentLike } from "../../src/index.ts";
import { ActingUsers } from "../../src/matrix/client.ts";
import { textMessage } from "../support/messages.ts";
import { AS_TOKEN, intentOf, openWorld, type World } from "../support/world.ts";

/** What matrix-bot-sdk throws where the answer is no Matrix error: the answer, with the request that it belongs to. */
function thrownAnswer(statusCode: number): object {
    return { statusCode, body: "<html>", request: { headers: { Authorization: `Bearer ${AS_TOKEN}` } } };
}

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

    it("keeps the cause of an error that is none of the homeserver's", async () => {
        const cause = new Error("connect ECONNREFUSED");
        const intent: IntentLike = { userId: "@a:b", ensureRegistered: () => Promise.reject(cause) };
        const user = new ActingUsers({ getIntent: () => intent }).get("@a:b");
        const error: unknown = await user.ensureRegistered().catch((thrown: unknown) => thrown);
        expect(error).to.include({ code: "HOMESERVER_FAILING", cause });
    });
});
