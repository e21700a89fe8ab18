import { createServer, request, type ServerResponse } from "node:http";
import { syncBuiltinESMExports } from "node:module";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import timers from "node:timers/promises";
import { expect } from "chai";
import { OUTBOX } from "../../src/bridge/records.ts";
import { BridgeMedia, type MediaError } from "../../src/index.ts";
import { LevelStore } from "../../src/store/level.ts";
import { bodies, messages } from "../support/download.ts";
import { photoMessage, textMessage } from "../support/messages.ts";
import { someBytes } from "../support/remote.ts";
import { closeScene, openScene, type Scene } from "../support/scene.ts";
import { until } from "../support/until.ts";
import { openWorld, plainBridge, type World } from "../support/world.ts";

const isSend = ({ method, path }: { method: string; path: string }): boolean =>
    method === "PUT" && path.includes("/send/");

/** What a proxy or a firewall answers with. */
const PAGE = { body: "<html>Forbidden</html>", headers: { "content-type": "text/html" } };

/** A proxy that hands each request on and says once, to the first that `matches` knows, that it took too long. */
async function timingOut(upstream: string, matches: (request: { method: string; path: string }) => boolean) {
    let timedOut = 0;
    const server = createServer((from, to) => {
        const { method = "", url = "", headers } = from;
        const on = request(upstream + url, { method, headers }, (answer) => {
            if (timedOut === 0 && matches({ method, path: url })) {
                timedOut++;
                answer.resume().on("end", () => to.writeHead(408).end("<html>Request Time-out</html>"));
            } else answer.pipe(to.writeHead(answer.statusCode ?? 500, answer.headers));
        });
        from.pipe(on);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
        url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        timedOut: () => timedOut,
        async close() {
            server.closeAllConnections();
            await new Promise((resolve) => server.close(resolve));
        },
    };
}

describe("the outbox", () => {
    let { world, remote, alice, roomId } = {} as Scene;
    beforeEach(async () => {
        ({ world, remote, alice, roomId } = await openScene());
    });
    afterEach(() => closeScene({ world, remote }));

    /** Answers the first `times` sendings with `answer`, then lets them through. */
    function disturb(times: number, answer: NonNullable<ReturnType<Parameters<World["homeserver"]["intercept"]>[0]>>) {
        const seen: string[] = [];
        world.homeserver.intercept((request) => {
            if (!isSend(request)) return undefined;
            seen.push(request.path);
            return seen.length <= times ? answer : undefined;
        });
        return seen;
    }

    async function sendThree(): Promise<void> {
        const media = world.component();
        await media.start();
        await Promise.all(["one", "two", "three"].map((body) => media.send(textMessage(roomId, alice, body))));
        await media.close();
    }

    it("waits as a 429 says, and keeps the order", async () => {
        disturb(2, { status: 429, body: { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 150 } });
        const began = Date.now();
        await sendThree();
        expect(Date.now() - began).to.be.at.least(300);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["one", "two", "three"]);
    });

    it("repeats after a 5xx and after a lost connection, in the same words", async () => {
        for (const answer of [{ status: 502, body: {} }, { drop: "before" }, { drop: "after" }] as const) {
            const seen = disturb(1, answer);
            await sendThree();
            const [first, second] = seen.map((path) => path.split("?")[0]);
            if (!("drop" in answer) || answer.drop === "before") expect(second).to.equal(first);
        }
        const three = ["one", "two", "three"];
        expect(bodies(world.homeserver, roomId)).to.deep.equal([...three, ...three, ...three]);
    });

    it("repeats after a 404 that says no Matrix code, as a proxy gives it while the homeserver restarts", async () => {
        const page = { "content-type": "text/html" };
        const answers = [
            { status: 404, body: "<html><h1>404 Not Found</h1></html>", headers: page },
            { status: 404, body: "404 page not found", headers: { "content-type": "text/plain" } },
            { status: 404, body: { detail: "Not Found" } },
        ];
        for (const answer of answers) {
            disturb(1, answer);
            await sendThree();
        }
        const three = ["one", "two", "three"];
        expect(bodies(world.homeserver, roomId)).to.deep.equal([...three, ...three, ...three]);
    });

    it("repeats after what a proxy or a firewall says without a Matrix code: it may pass", async () => {
        const page = { body: "<html>Request Time-out</html>", headers: { "content-type": "text/html" } };
        const statuses = [408, 421, 425, 400, 403];
        for (const status of statuses) {
            disturb(1, { status, ...page });
            await sendThree();
        }
        const three = ["one", "two", "three"];
        expect(bodies(world.homeserver, roomId)).to.deep.equal(statuses.flatMap(() => three));
    });

    it("takes a size that is refused without a Matrix code for the last word", async () => {
        for (const [status, code] of [
            [413, "EVENT_TOO_LARGE"],
            [414, "EVENT_REFUSED"],
        ] as const) {
            const media = world.component();
            await media.start();
            const seen = disturb(1, { status, body: "<html></html>" });
            const refused = media.send(textMessage(roomId, alice, "never")).catch((error: MediaError) => error);
            expect(await refused).to.include({ code });
            expect(seen).to.have.length(1);
            await media.close();
        }
    });

    it("looks for an event whose answer a proxy has timed out, before it sends it again", async () => {
        await world.close();
        world = await openWorld({ txnMemoryMs: 0 });
        roomId = await world.room(alice);
        const proxy = await timingOut(world.homeserver.url, isSend);
        const media = new BridgeMedia(plainBridge(proxy.url, world.bot), { dataDir: world.dataDir });
        try {
            await media.start();
            await media.send(textMessage(roomId, alice, "once"));
            expect(proxy.timedOut()).to.equal(1);
            expect(bodies(world.homeserver, roomId)).to.deep.equal(["once"]);
        } finally {
            await media.close();
            await proxy.close();
        }
    });

    it("does not take such a 404 for a room without the event, which it looks for", async () => {
        await world.close();
        world = await openWorld({ txnMemoryMs: 0 });
        roomId = await world.room(alice);
        disturb(1, { drop: "after" });
        let looks = 0;
        world.homeserver.intercept(({ path }) =>
            path.endsWith("/messages") && looks++ === 0 ? { status: 404, body: "Not Found" } : undefined,
        );
        await sendThree();
        expect(looks).to.equal(2);
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["one", "two", "three"]);
    });

    for (const status of [403, 400]) {
        it(`nor a page with ${status} for its word that the sender may not read the room`, async () => {
            await world.close();
            world = await openWorld({ txnMemoryMs: 0 });
            roomId = await world.room(alice);
            const seen = disturb(1, { drop: "after" });
            let looks = 0;
            world.homeserver.intercept(({ path }) =>
                path.endsWith("/messages") && looks++ === 0 ? { status, ...PAGE } : undefined,
            );
            const media = world.component();
            await media.start();
            await media.send(textMessage(roomId, alice, "once"));
            expect([seen.length, looks]).to.deep.equal([1, 2]);
            expect(bodies(world.homeserver, roomId)).to.deep.equal(["once"]);
        });
    }

    it("sends it again under its transaction id where a page refuses the look for it eight times", async () => {
        const { setTimeout: sleep } = timers;
        timers.setTimeout = (ms, ...rest) => sleep(Math.min(ms ?? 1, 5), ...rest);
        syncBuiltinESMExports();
        try {
            const seen = disturb(1, { drop: "after" });
            let looks = 0;
            world.homeserver.intercept(({ path }) => {
                if (!path.endsWith("/messages")) return undefined;
                looks++;
                return { status: 403, ...PAGE };
            });
            const media = world.component();
            await media.start();
            await media.send(textMessage(roomId, alice, "once"));
            expect(looks).to.equal(8);
            expect(seen).to.have.length(2);
            expect(seen[1]).to.equal(seen[0]);
            expect(bodies(world.homeserver, roomId)).to.deep.equal(["once"]);
            await media.close();
        } finally {
            timers.setTimeout = sleep;
            syncBuiltinESMExports();
        }
    });

    it("takes a 404 of the homeserver's own for its last word", async () => {
        for (const [errcode, code] of [
            ["M_NOT_FOUND", "EVENT_REFUSED"],
            ["M_UNRECOGNIZED", "NOT_SUPPORTED"],
        ] as const) {
            const media = world.component();
            await media.start();
            const seen = disturb(1, { status: 404, body: { errcode, error: "no" } });
            const refused = media.send(textMessage(roomId, alice, "never")).catch((error: MediaError) => error);
            expect(await refused).to.include({ code });
            expect(seen).to.have.length(1);
            await media.close();
        }
    });

    it("does not double an event whose answer was lost and whose transaction the homeserver forgot", async () => {
        await world.close();
        world = await openWorld({ txnMemoryMs: 0 });
        roomId = await world.room(alice);
        const seen = disturb(1, { drop: "after" });
        await sendThree();
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["one", "two", "three"]);
        expect(seen).to.have.length(3);
    });

    it("a final refusal fails that message only, with a typed error that stays", async () => {
        const media = world.component();
        await media.start();
        const large = textMessage(roomId, alice, "too large");
        world.homeserver.intercept((request) =>
            isSend(request) && messages(world.homeserver, roomId).length === 1
                ? { status: 413, body: { errcode: "M_TOO_LARGE" } }
                : undefined,
        );
        const first = media.send(textMessage(roomId, alice, "one"));
        const second = media.send(large).catch((error: MediaError) => error);
        await first;
        expect(await second).to.include({ code: "EVENT_TOO_LARGE" });
        expect(await media.send(large).catch((error: MediaError) => error)).to.include({ code: "EVENT_TOO_LARGE" });
    });

    it("a refused media message gives its address back", async () => {
        const media = world.component({ reserveAhead: 1 });
        await media.start();
        const url = remote.file(someBytes(10));
        await (await media.send(photoMessage(roomId, alice, { kind: "http", url }))).uploads[0]?.done;
        await until(() => world.homeserver.pendingMedia(alice) === 1);
        const stop = world.homeserver.intercept((request) =>
            isSend(request) ? { status: 400, body: { errcode: "M_BAD_JSON" } } : undefined,
        );
        const refused = await media
            .send(photoMessage(roomId, alice, { kind: "http", url }))
            .catch((e: MediaError) => e);
        expect(refused).to.include({ code: "EVENT_REFUSED" });
        stop();
        const creates = () => world.homeserver.requests.filter(({ path }) => path.includes("/media/v1/create")).length;
        const before = creates();
        const sent = await media.send(
            photoMessage(roomId, alice, { kind: "http", url: remote.on("/never", () => {}) }),
        );
        expect(sent.uploads[0]?.contentUri).to.match(/^mxc:/);
        const made = world.homeserver.requests.findLastIndex(isSend);
        expect(
            world.homeserver.requests.slice(0, made).filter(({ path }) => path.includes("/media/v1/create")),
        ).to.have.length(before);
    });

    it("brings in a ghost that was never registered, one that never joined, and one that was kicked", async () => {
        const media = world.component();
        await media.start();
        await media.send(textMessage(roomId, world.ghost("newcomer"), "new"));
        const created = await world.request(world.bot, "POST", "/createRoom", { preset: "private_chat" });
        const inviteOnly = String(created["room_id"]);
        await media.send(textMessage(inviteOnly, alice, "invited"));
        await world.request(world.bot, "POST", `/rooms/${roomId}/kick`, { user_id: alice });
        await media.send(textMessage(roomId, alice, "back"));
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["new", "back"]);
        expect(bodies(world.homeserver, inviteOnly)).to.deep.equal(["invited"]);
    });

    it("refuses what the ghost may not say, and goes on", async () => {
        const media = world.component();
        await media.start();
        const refused = await media
            .send(textMessage(roomId, "@stranger:example.org", "who?"))
            .catch((error: MediaError) => error);
        expect(refused).to.include({ code: "FORBIDDEN" });
        await media.send(textMessage(roomId, alice, "fine"));
        expect(bodies(world.homeserver, roomId)).to.deep.equal(["fine"]);
    });

    it("a room that is stuck does not hold up another", async () => {
        const other = await world.room(alice);
        const stop = world.homeserver.intercept((request) =>
            isSend(request) && request.path.includes(encodeURIComponent(roomId))
                ? { status: 503, body: {} }
                : undefined,
        );
        const media = world.component();
        await media.start();
        const stuck = media.send(textMessage(roomId, alice, "later"));
        for (let index = 0; index < 5; index++) await media.send(textMessage(other, alice, `${index}`));
        expect(bodies(world.homeserver, other)).to.have.length(5);
        stop();
        await stuck;
    });

    it("passes the timestamp on", async () => {
        const media = world.component();
        await media.start();
        await media.send(textMessage(roomId, alice, "then", { timestamp: 1_600_000_000_000 }));
        expect(messages(world.homeserver, roomId)[0]?.origin_server_ts).to.equal(1_600_000_000_000);
    });

    it("journals its line in the order in which it sends it, also when an edit comes while bytes are handed over", async () => {
        let asked: ServerResponse | undefined;
        const url = remote.on("/gone", (_request, response) => {
            asked = response;
        });
        const media = world.component();
        await media.start();
        await media.send(photoMessage(roomId, alice, { kind: "http", url }));
        const sends = disturb(Number.POSITIVE_INFINITY, { status: 503, body: {} });
        const stream = new PassThrough();
        const message = photoMessage(roomId, alice, { kind: "stream", stream });
        const sending = media.send(message).catch((error: MediaError) => error.code);
        stream.write("begun");
        (await until(() => asked)).writeHead(404).end();
        await until(() => sends.length > 0);
        stream.end();
        const isJournaled = async (): Promise<boolean> => {
            for await (const { messageId } of media.jobs()) if (messageId === message.id) return true;
            return false;
        };
        await until(isJournaled);
        await media.close();
        expect(await sending).to.equal("CLOSED");
        const store = new LevelStore(join(world.dataDir, "journal"));
        await store.open(() => {});
        const line: string[] = [];
        for await (const [, record] of store.range({ collection: OUTBOX })) line.push(String(record["id"]));
        await store.close();
        expect(line).to.have.lengthOf(2);
        expect(line[1], "behind the edit").to.equal(message.id);
    });
});
